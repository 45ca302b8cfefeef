// A request's body as it arrives, counted against what all bodies may take together: each is
// bounded, but a thousand connections could bring a thousand of them.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/optional.hpp>
#include <boost/system/error_code.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>

namespace fathom::server {

/// Room for bodies, in bytes. Used by one thread; outlives its shares.
class BodyRoom {
 public:
  /// `used`: where what is taken is told to others; outlives this.
  BodyRoom(std::size_t most, std::atomic<std::int64_t>& used) : free_(most), used_(used) {}

  /// What one body has taken, given back with it.
  class Share {
   public:
    Share() = default;
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() { give_back(); }

    void open(BodyRoom& room) { room_ = &room; }
    /// False if there is no room for so many more.
    bool take(std::size_t bytes) {
      if (room_ == nullptr || bytes > room_->free_) return false;
      bytes_ += bytes;
      room_->free_ -= bytes;
      room_->used_ += static_cast<std::int64_t>(bytes);
      return true;
    }
    void give_back() {
      if (room_ == nullptr) return;
      room_->free_ += bytes_;
      room_->used_ -= static_cast<std::int64_t>(std::exchange(bytes_, 0));
    }

   private:
    BodyRoom* room_ = nullptr;
    std::size_t bytes_ = 0;
  };

 private:
  std::size_t free_;
  std::atomic<std::int64_t>& used_;
};

/// A Body as Boost.Beast wants one. Nothing is set aside for a length that is only declared. Where
/// there is no room the error is errc::not_enough_memory: thrown from here, it would end the
/// thread that serves everybody.
struct CountedBody {
  struct value_type {
    std::string text;
    BodyRoom::Share share;  // to be opened before the body is read
  };

  class reader {
   public:
    template <bool isRequest, class Fields>
    reader(boost::beast::http::header<isRequest, Fields>&, value_type& body) : body_(body) {}

    void init(const boost::optional<std::uint64_t>&, boost::system::error_code& error) {
      error = {};
    }

    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& error) {
      const std::size_t bytes = boost::asio::buffer_size(buffers);
      error = {};
      try {
        if (!body_.share.take(bytes)) throw std::bad_alloc();
        for (auto at = boost::asio::buffer_sequence_begin(buffers);
             at != boost::asio::buffer_sequence_end(buffers); ++at) {
          const boost::asio::const_buffer piece(*at);
          body_.text.append(static_cast<const char*>(piece.data()), piece.size());
        }
      } catch (const std::bad_alloc&) {
        error = make_error_code(boost::system::errc::not_enough_memory);
        return 0;
      }
      return bytes;
    }

    void finish(boost::system::error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

}  // namespace fathom::server
