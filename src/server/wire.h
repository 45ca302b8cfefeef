// A connection's bytes, plain or under TLS, as Boost.Asio and Beast want a stream.
#pragma once

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>

#include <chrono>
#include <optional>
#include <utility>

namespace fathom::server {

/// One thread uses it. A read and a write may be under way at once, not two of a kind.
class Wire {
 public:
  using Plain = boost::beast::tcp_stream;
  using executor_type = Plain::executor_type;

  /// `tls`, if not null, outlives it.
  Wire(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls)
      : plain_(std::move(socket)) {
    if (tls != nullptr) secure_.emplace(plain_, *tls);
  }

  executor_type get_executor() { return plain_.get_executor(); }
  boost::asio::ip::tcp::socket& socket() { return plain_.socket(); }
  /// What is begun from here on fails with beast::error::timeout after so long.
  void expires_after(std::chrono::milliseconds limit) { plain_.expires_after(limit); }
  void close() { plain_.close(); }

  /// Agrees on keys with the client; at once without TLS.
  template <typename Token>
  auto async_handshake(Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) {
          if (secure_) {
            secure_->async_handshake(boost::asio::ssl::stream_base::server, std::move(handler));
          } else {
            boost::asio::post(
                plain_.get_executor(),
                boost::beast::bind_front_handler(std::move(handler), boost::system::error_code{}));
          }
        },
        token);
  }
  /// Tells the client that nothing more will come.
  template <typename Token>
  auto async_end(Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code)>(
        [this](auto handler) {
          if (secure_) {
            secure_->async_shutdown(std::move(handler));
            return;
          }
          boost::system::error_code error;
          plain_.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_send, error);
          boost::asio::post(plain_.get_executor(),
                            boost::beast::bind_front_handler(std::move(handler), error));
        },
        token);
  }
  template <typename Buffers, typename Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        [this](auto handler, const Buffers& to) {
          if (secure_) {
            secure_->async_read_some(to, std::move(handler));
          } else {
            plain_.async_read_some(to, std::move(handler));
          }
        },
        token, buffers);
  }
  template <typename Buffers, typename Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return boost::asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        [this](auto handler, const Buffers& from) {
          if (secure_) {
            secure_->async_write_some(from, std::move(handler));
          } else {
            plain_.async_write_some(from, std::move(handler));
          }
        },
        token, buffers);
  }

 private:
  Plain plain_;
  std::optional<boost::asio::ssl::stream<Plain&>> secure_;
};

}  // namespace fathom::server
