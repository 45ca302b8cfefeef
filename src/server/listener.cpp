#include "server/listener.h"

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <spdlog/spdlog.h>

#include <poll.h>

#include <csignal>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "server/api_error.h"
#include "server/counted_body.h"
#include "server/inbox.h"
#include "server/tls.h"
#include "server/wire.h"
#include "server/wire_request.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using Parser = http::request_parser<CountedBody>;

constexpr int kMostLoads = 3;  // of a model, for one request
constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

}  // namespace

struct Listener::Impl {
  struct Connection {
    Connection(tcp::socket socket, asio::ssl::context* tls) : stream(std::move(socket), tls) {}
    Wire stream;
    bool busy = false;  // between a request's header and its answer's end
  };
  using Held = std::shared_ptr<Connection>;

  Impl(Api& api_of, const ListenerOptions& options_of)
      : api(api_of),
        options(options_of),
        tls(options.tls ? make_tls(*options.tls) : nullptr),
        workers(options.workers),
        acceptor(io),
        drained(io),
        signals(io) {
    boost::system::error_code error;
    const auto address = asio::ip::make_address(options.address, error);
    require(!error, ErrorCode::InvalidArgument, "'{}' is no numeric address to listen on",
            options.address);
    const tcp::endpoint endpoint(address, options.port);
    const auto check = [&](const char* what) {
      require(!error, ErrorCode::Io, "cannot {} {} port {}: {}", what, options.address,
              options.port, error.message());
    };
    acceptor.open(endpoint.protocol(), error);
    check("open");
    acceptor.set_option(asio::socket_base::reuse_address(true), error);
    acceptor.bind(endpoint, error);
    check("listen on");
    acceptor.listen(asio::socket_base::max_listen_connections, error);
    check("listen on");
  }

  // --- connections ---------------------------------------------------------------------------

  asio::awaitable<void> accept() {
    while (acceptor.is_open()) {
      auto [error, socket] = co_await acceptor.async_accept(kTuple);
      if (!acceptor.is_open()) co_return;
      if (error) {  // no descriptors, mostly: some will come back
        asio::steady_timer pause(io, std::chrono::milliseconds(100));
        co_await pause.async_wait(kTuple);
        continue;
      }
      if (connections.size() >= options.max_connections) continue;  // closes it
      boost::system::error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      // Whatever ends it, only this connection ends.
      asio::co_spawn(io, serve(std::make_shared<Connection>(std::move(socket), tls.get())),
                     asio::detached);
    }
  }

  /// Until stop(). No memory for one connection is no reason to take none.
  void keep_accepting() {
    asio::co_spawn(io, accept(), [this](std::exception_ptr failed) {
      if (failed && acceptor.is_open()) keep_accepting();
    });
  }

  /// Counts a connection for as long as it is served, and closes it then: watch() may hold it, too.
  struct Presence {
    Presence(Impl& impl_of, Held held) : impl(impl_of), connection(std::move(held)) {
      impl.connections.insert(connection);
      ++impl.api.metrics().connections;
    }
    ~Presence() {
      connection->stream.close();
      impl.connections.erase(connection);
      --impl.api.metrics().connections;
    }
    Impl& impl;
    Held connection;
  };

  asio::awaitable<void> serve(Held connection) {
    const Presence presence(*this, connection);
    Wire& stream = connection->stream;
    stream.expires_after(options.header_timeout);
    const auto [no_keys] = co_await stream.async_handshake(kTuple);
    if (no_keys) co_return;
    beast::flat_buffer buffer(std::size_t{options.max_header_bytes} + (128u << 10));
    for (bool first = true; !stopping; first = false) {
      Parser parser;
      parser.header_limit(options.max_header_bytes);
      parser.body_limit(options.max_body_bytes);
      parser.get().body().share.open(body_room);
      stream.expires_after(first ? options.header_timeout : options.idle_timeout);
      auto [error, bytes] = co_await http::async_read_header(stream, buffer, parser, kTuple);
      connection->busy = true;
      HttpRequest request = head_of(parser.get());
      if (tls) request.scheme = "https";
      // A key is asked for before a body is taken.
      std::optional<HttpResponse> refused;
      if (!error) refused = api.refuse(request);
      if (!error && !refused) {
        stream.expires_after(options.body_timeout);
        if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
          http::response<http::empty_body> go_on(http::status::continue_, 11);
          co_await http::async_write(stream, go_on, kTuple);
        }
        std::tie(error, bytes) = co_await http::async_read(stream, buffer, parser, kTuple);
      }
      if (error) {
        parser.get().body().text = {};
        parser.get().body().share.give_back();
        if (!is_silence(error)) {
          const HttpResponse failure = answer_to(error, options, form_of(request));
          co_await write(*connection, failure, request, 11, false);
        }
        break;
      }
      const unsigned version = parser.get().version();
      const bool keep_alive = parser.get().keep_alive() && !refused;
      if (refused) {
        co_await write(*connection, *refused, request, version, false);
        break;
      }
      request.body = std::move(parser.get().body().text);
      Api::Answer answer = co_await asio::co_spawn(
          workers, [&]() -> asio::awaitable<Api::Answer> { co_return api.handle(request); },
          asio::use_awaitable);
      EventStream events{*this, *connection, request, version, keep_alive};
      // A model that is not in memory is loaded first, one at a time. It may have had to go again
      // before this request's turn: then once more.
      for (int tries = 0; std::holds_alternative<LoadFirst>(answer); ++tries) {
        std::optional<HttpResponse> failed =
            ApiError(503, "other models are wanted just as much; try again")
                .response(form_of(request));
        if (tries < kMostLoads) {
          failed = co_await load(std::get<LoadFirst>(answer), request, events);
        }
        if (failed) {
          answer = std::move(*failed);
        } else {
          answer = co_await asio::co_spawn(
              workers, [&]() -> asio::awaitable<Api::Answer> { co_return api.handle(request); },
              asio::use_awaitable);
        }
      }
      request.body.clear();
      request.body.shrink_to_fit();
      parser.get().body().share.give_back();
      bool go_on = false;
      if (auto* response = std::get_if<HttpResponse>(&answer)) {
        go_on = co_await events.give(*response);
      } else {
        auto generation = std::move(std::get<std::unique_ptr<Generation>>(answer));
        go_on = co_await generate(connection, std::move(generation), events);
      }
      if (!go_on) break;
      connection->busy = false;
    }
    // Lets the last bytes arrive before the connection is reset for what was not read.
    stream.expires_after(std::chrono::seconds(1));
    co_await stream.async_end(kTuple);
    char rest[4096];
    for (std::size_t taken = 0; taken < (1u << 20);) {
      const auto [error, bytes] = co_await stream.async_read_some(asio::buffer(rest), kTuple);
      if (error) break;
      taken += bytes;
    }
  }

  template <typename Message>
  void set_head(Message& message, const HttpRequest& request, bool keep_alive) {
    message.set(http::field::server, "fathom");
    message.set(http::field::cache_control, "no-store");
    for (const auto& [name, value] : api.cross_origin_headers(request)) message.set(name, value);
    message.keep_alive(keep_alive && !stopping);
  }

  /// Whether the connection may go on.
  asio::awaitable<bool> write(Connection& connection, const HttpResponse& response,
                              const HttpRequest& request, unsigned version, bool keep_alive) {
    api.metrics().count_response(response.status);
    http::response<http::string_body> message(static_cast<http::status>(response.status), version);
    set_head(message, request, keep_alive);
    if (response.status != 204) message.set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.headers) message.set(name, value);
    message.body() = response.body;
    message.prepare_payload();
    // Only told of: a client takes the next bytes for the next answer.
    if (request.method == "HEAD") message.body().clear();
    connection.stream.expires_after(options.write_timeout);
    const auto [error, bytes] = co_await http::async_write(connection.stream, message, kTuple);
    if (error == beast::error::timeout) ++api.metrics().dropped_readers;
    co_return !error && message.keep_alive();
  }

  // --- streams -------------------------------------------------------------------------------

  /// Status 200 and server-sent events, from the first one on.
  class EventStream {
   public:
    EventStream(Impl& impl, Connection& connection, const HttpRequest& request, unsigned version,
                bool keep_alive)
        : impl_(impl),
          connection_(connection),
          request_(request),
          version_(version),
          keep_alive_(keep_alive) {}

    bool begun() const { return head_.has_value(); }
    /// Nobody reads any more.
    bool broken() const { return static_cast<bool>(error_); }

    asio::awaitable<void> begin() {
      if (begun()) co_return;
      impl_.api.metrics().count_response(200);
      head_.emplace(http::status::ok, version_);
      impl_.set_head(*head_, request_, keep_alive_ && chunked());
      head_->set(http::field::content_type, "text/event-stream; charset=utf-8");
      head_->set("X-Accel-Buffering", "no");  // a proxy that gathers would spoil it
      head_->chunked(chunked());
      http::response_serializer<http::empty_body> serializer(*head_);
      connection_.stream.expires_after(impl_.options.write_timeout);
      std::tie(error_, std::ignore) =
          co_await http::async_write_header(connection_.stream, serializer, kTuple);
    }
    asio::awaitable<void> send(std::string_view text) {
      co_await begin();
      if (text.empty() || broken()) co_return;
      connection_.stream.expires_after(impl_.options.write_timeout);
      const auto bytes = asio::buffer(text);
      if (chunked()) {
        std::tie(error_, std::ignore) =
            co_await asio::async_write(connection_.stream, http::make_chunk(bytes), kTuple);
      } else {
        std::tie(error_, std::ignore) =
            co_await asio::async_write(connection_.stream, bytes, kTuple);
      }
    }
    asio::awaitable<void> comment() { co_await send(": keep-alive\n\n"); }
    /// Whether the connection may go on.
    asio::awaitable<bool> end() {
      if (!broken() && chunked()) {
        std::tie(error_, std::ignore) =
            co_await asio::async_write(connection_.stream, http::make_chunk_last(), kTuple);
      }
      if (error_ == beast::error::timeout) ++impl_.api.metrics().dropped_readers;
      co_return !broken() && chunked() && head_->keep_alive();
    }
    /// A whole answer; as an event if the stream has begun, since its status is gone then.
    asio::awaitable<bool> give(const HttpResponse& response) {
      if (!begun()) {
        co_return co_await impl_.write(connection_, response, request_, version_, keep_alive_);
      }
      co_await send(error_events(request_, response));
      co_return co_await end();
    }

   private:
    bool chunked() const { return version_ >= 11; }

    Impl& impl_;
    Connection& connection_;
    const HttpRequest& request_;
    const unsigned version_;
    const bool keep_alive_;
    std::optional<http::response<http::empty_body>> head_;
    beast::error_code error_;
  };

  /// Of a request that streams, its client is told meanwhile that it has not been forgotten.
  asio::awaitable<std::optional<HttpResponse>> load(const LoadFirst& first,
                                                    const HttpRequest& request,
                                                    EventStream& events) {
    struct Loading {
      explicit Loading(asio::io_context& io_of) : ended(io_of) {}
      asio::steady_timer ended;
      bool done = false;
      std::exception_ptr thrown;
      std::optional<HttpResponse> failed;
    };
    const auto loading = std::make_shared<Loading>(io);
    asio::co_spawn(
        loader,
        [this, &request, first]() -> asio::awaitable<std::optional<HttpResponse>> {
          co_return api.load(request, first);
        },
        asio::bind_executor(
            io, [loading](std::exception_ptr thrown, std::optional<HttpResponse> failed) {
              loading->done = true;
              loading->thrown = thrown;
              loading->failed = std::move(failed);
              loading->ended.cancel();
            }));
    while (!loading->done) {
      loading->ended.expires_after(options.comment_interval);
      co_await loading->ended.async_wait(kTuple);
      if (!loading->done && first.streams && !events.broken()) co_await events.comment();
    }
    if (loading->thrown) std::rethrow_exception(loading->thrown);
    co_return std::move(loading->failed);
  }

  // --- generations ---------------------------------------------------------------------------

  /// Notices a client that closes the connection while it waits for its answer. What can be read
  /// may be its next request, behind which no read sees the end: it is asked for by itself.
  asio::awaitable<void> watch(Held connection, std::shared_ptr<Inbox> inbox) {
    tcp::socket& socket = connection->stream.socket();
    const auto [error] = co_await socket.async_wait(tcp::socket::wait_read, kTuple);
    asio::steady_timer pause(io);
    while (!error && socket.is_open() && !inbox->closed()) {
      pollfd end{socket.native_handle(), POLLRDHUP, 0};
      if (::poll(&end, 1, 0) != 0) co_return inbox->leave();
      pause.expires_after(std::chrono::milliseconds(200));
      co_await pause.async_wait(kTuple);
    }
  }

  asio::awaitable<bool> generate(Held connection, std::unique_ptr<Generation> generation,
                                 EventStream& events) {
    const auto inbox = std::make_shared<Inbox>(io.get_executor());
    const struct Closer {
      Inbox& inbox;
      ~Closer() { inbox.close(); }
    } closer{*inbox};
    std::optional<HttpResponse> refused;
    try {
      generation->start(
          [inbox](std::size_t choice, Event event) { inbox->put(choice, std::move(event)); });
    } catch (const ApiError& error) {
      refused = generation->refusal(error);
    }
    if (refused) co_return co_await events.give(*refused);
    asio::co_spawn(io, watch(connection, inbox), asio::detached);
    while (generation->undecided()) {
      co_await inbox->wait(options.comment_interval);
      if (inbox->gone()) co_return false;
      auto come = inbox->take();
      for (auto& [choice, event] : come) generation->take(choice, std::move(event));
      if (come.empty() && generation->streams()) co_await events.comment();
    }
    if (const std::optional<ApiError> error = generation->refused()) {
      co_return co_await events.give(generation->refusal(*error));
    }
    if (generation->streams()) co_return co_await stream_out(*generation, *inbox, events);
    while (!generation->done()) {
      co_await inbox->wait(options.comment_interval);
      if (inbox->gone()) co_return false;  // ends the generation too
      for (auto& [choice, event] : inbox->take()) generation->take(choice, std::move(event));
    }
    co_return co_await events.give(generation->result());
  }

  asio::awaitable<bool> stream_out(Generation& generation, Inbox& inbox, EventStream& events) {
    co_await events.begin();
    while (!events.broken() && !generation.done()) {
      co_await inbox.wait(options.comment_interval);
      if (inbox.gone()) co_return false;
      auto come = inbox.take();
      if (come.empty()) co_await events.comment();
      std::string text;
      for (auto& [choice, event] : come) text += generation.take(choice, std::move(event));
      co_await events.send(text);
    }
    co_return co_await events.end();
  }

  // --- the end -------------------------------------------------------------------------------

  void begin_stop() {
    if (std::exchange(stopping, true)) return;
    api.drain();
    boost::system::error_code ignored;
    acceptor.close(ignored);
    signals.cancel(ignored);
    for (const Held& connection : connections) {
      if (!connection->busy) connection->stream.close();
    }
    asio::co_spawn(io, drain(), asio::detached);
  }

  asio::awaitable<void> drain() {
    const auto end = std::chrono::steady_clock::now() + options.drain_timeout;
    while (!connections.empty() && std::chrono::steady_clock::now() < end) {
      drained.expires_after(std::chrono::milliseconds(20));
      co_await drained.async_wait(kTuple);
    }
    io.stop();
  }

  Api& api;
  const ListenerOptions options;
  const std::unique_ptr<asio::ssl::context> tls;  // may be null
  BodyRoom body_room{options.max_total_body_bytes, api.metrics().body_bytes};
  std::set<Held> connections;  // before io, whose end destroys what serves them
  asio::io_context io{1};
  asio::thread_pool workers;
  asio::thread_pool loader{1};
  tcp::acceptor acceptor;
  asio::steady_timer drained;
  asio::signal_set signals;
  bool stopping = false;
};

Listener::Listener(Api& api, const ListenerOptions& options)
    : impl_(std::make_unique<Impl>(api, options)) {}

Listener::~Listener() {
  // Coroutines that are still suspended go with their frames, before what they point to.
  impl_->workers.join();
  impl_->loader.join();
}

std::uint16_t Listener::port() const { return impl_->acceptor.local_endpoint().port(); }

void Listener::run() {
  Impl& impl = *impl_;
  impl.keep_accepting();
  if (impl.options.stop_on_signals) {
    impl.signals.add(SIGINT);
    impl.signals.add(SIGTERM);
    impl.signals.async_wait([&impl](const boost::system::error_code& error, int) {
      if (!error) impl.begin_stop();
    });
  }
  while (true) {
    try {
      impl.io.run();
      return;
    } catch (const std::bad_alloc&) {
      // An operation that had no memory is gone, with its connection; the others go on.
      spdlog::error("out of memory: a connection was dropped");
    }
  }
}

void Listener::stop() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->begin_stop(); });
}

}  // namespace fathom::server
