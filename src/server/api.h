// Routes: from a request to an answer, or to a Generation that will give one.
//
// Knows who may ask (keys, Host, Origin), which paths there are, and what they mean. Any number of
// threads may call it.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/context_store.h"
#include "server/books.h"
#include "server/completion_request.h"
#include "server/generation.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/model_pool.h"
#include "server/pull_desk.h"
#include "server/served_model.h"

namespace fathom::server {

struct ApiOptions {
  /// Keys that may ask; with none, everybody who reaches the port may.
  std::vector<std::string> keys;
  /// Names that a Host header may have, beside localhost and numeric addresses: a page that made
  /// its own name point here (DNS rebinding) is refused.
  std::vector<std::string> hosts;
  /// Origins of web pages that may ask, beside the server's own: "https://chat.example.org".
  std::vector<std::string> origins;
  /// Pages of the context cache on disk. May be null.
  std::shared_ptr<ContextStore> context_store;
  /// Keys made by `fathom keys`, their limits, and what is used. May be null.
  std::shared_ptr<Books> books;
  /// Where users ask for models to be fetched. Null: they may not.
  std::shared_ptr<PullDesk> pulls;
  RequestRules rules;
  /// Requests in the engine's queue, past which the answer is 429; of one key half as many.
  std::size_t max_waiting = 64;
};

/// A request wants a model that is not in memory: load() it, then handle() the request again.
struct LoadFirst {
  std::optional<std::string> model;  // as the request names it
  bool streams = false;              // its answer will be server-sent events
};

class Api {
 public:
  using Answer = std::variant<HttpResponse, std::unique_ptr<Generation>, LoadFirst>;

  struct Route {
    const char* method;
    const char* path;
    Answer (*run)(Api&, const HttpRequest&);
  };

  Api(std::shared_ptr<ModelPool> models, ApiOptions options);
  /// With one model, that is always there.
  Api(ServedModel model, ApiOptions options);

  /// What there is to ask for. openapi.json describes the same (tests/server/openapi_test.cpp).
  static std::span<const Route> routes();

  /// What a request gets that may not ask, told from its header alone; its body is not looked at.
  std::optional<HttpResponse> refuse(const HttpRequest& request) const;
  /// The answer to a request that was not refused. What is wrong with it becomes an error response.
  Answer handle(const HttpRequest& request);
  /// What handle() asked for: may take minutes. What went wrong, as the answer to the request.
  std::optional<HttpResponse> load(const HttpRequest& request, const LoadFirst& first);
  /// For pages of the origins that may ask: what their browsers want to see.
  std::vector<std::pair<std::string, std::string>> cross_origin_headers(
      const HttpRequest& request) const;

  /// From now on /ready says no, and new generations are refused with 503.
  void drain() { draining_ = true; }
  Metrics& metrics() { return metrics_; }
  ModelPool& models() { return *models_; }

 private:
  /// Throw ApiError.
  void check_access(const HttpRequest& request) const;
  Answer route(const HttpRequest& request);
  enum class Kind { Chat, Text, Messages, Responses };
  Answer generate(const HttpRequest& request, Kind kind);
  /// The model that the body names. Throws ApiError(404), LoadFirst.
  ModelPool::Held model_for(const Json& body, bool streams = false) const;
  /// Of all loaded models together.
  /// Throws ApiError(429).
  void check_queue(const ServedModel& model, std::uint64_t account) const;
  HttpResponse list_models() const;
  HttpResponse balance(const HttpRequest& request) const;
  /// Once there is a key, every route wants one.
  bool wants_key() const;
  /// The key of the books that the request shows, if it is one of theirs.
  std::optional<Key> key_of(const HttpRequest& request) const;
  /// Deletes what the context cache has of the asking key; without keys, all.
  HttpResponse forget(const HttpRequest& request) const;
  enum class PullOrder { Start, Cancel };
  HttpResponse pull(const HttpRequest& request, PullOrder order) const;
  HttpResponse list_pulls() const;
  HttpResponse tokenize(const HttpRequest& request) const;
  HttpResponse detokenize(const HttpRequest& request) const;
  HttpResponse apply_template(const HttpRequest& request) const;
  /// Prompts are shared between requests of one key only.
  std::uint64_t cache_scope(const HttpRequest& request) const;

  std::shared_ptr<ModelPool> models_;
  ApiOptions options_;
  Metrics metrics_;
  std::atomic<bool> draining_ = false;
};

}  // namespace fathom::server
