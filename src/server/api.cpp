#include "server/api.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "server/api_error.h"
#include "server/completion.h"
#include "server/filter_input.h"
#include "server/judge.h"
#include "server/messages.h"
#include "server/openapi.h"
#include "server/responses.h"

namespace fathom::server {
namespace {

HttpResponse json_response(const Json& json) {
  HttpResponse response;
  response.body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

/// "localhost:8080" without its port, in lower case; "[::1]" keeps its brackets.
std::string host_name(std::string_view host) {
  const std::size_t bracket = host.find(']');
  const std::size_t colon = host.find(':', bracket == std::string_view::npos ? 0 : bracket);
  std::string name(host.substr(0, colon));
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return name;
}

/// No name that somebody's DNS could point here: an address is what it says.
bool is_address(std::string_view name) {
  if (name.starts_with('[') && name.ends_with(']')) {
    return name.find_first_not_of("0123456789abcdef:.", 1) == name.size() - 1;
  }
  return !name.empty() && name.find_first_not_of("0123456789.") == std::string_view::npos;
}

/// The key that a request shows, as "Authorization: Bearer KEY" or "x-api-key: KEY".
std::string_view shown_key(const HttpRequest& request) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = request.authorization;
  if (authorization.starts_with(kBearer)) return authorization.substr(kBearer.size());
  return request.x_api_key;
}

/// In a time that depends on neither: of both, digests are compared.
bool same_key(std::string_view a, std::string_view b) {
  const auto digest = [](std::string_view text) {
    std::array<unsigned char, crypto_generichash_BYTES> hash{};
    crypto_generichash(hash.data(), hash.size(),
                       reinterpret_cast<const unsigned char*>(text.data()), text.size(), nullptr,
                       0);
    return hash;
  };
  const auto one = digest(a);
  const auto other = digest(b);
  return sodium_memcmp(one.data(), other.data(), one.size()) == 0;
}

/// What a client is told of what went wrong; nothing that is thrown may end the server.
HttpResponse response_to(const std::exception& error, ErrorForm form) {
  if (const auto* api = dynamic_cast<const ApiError*>(&error)) return api->response(form);
  if (const auto* own = dynamic_cast<const Error*>(&error))
    return to_api_error(*own).response(form);
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return ApiError(503, "out of memory").response(form);
  }
  return ApiError(500, error.what()).response(form);
}

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Json ids_json(std::span<const TokenId> ids) {
  Json list = Json::array();
  for (const TokenId id : ids) list.push_back(value(id));
  return list;
}

}  // namespace

Api::Api(ServedModel model, ApiOptions options)
    : Api(std::make_shared<ModelPool>(std::move(model)), std::move(options)) {}

Api::Api(std::shared_ptr<ModelPool> models, ApiOptions options)
    : models_(std::move(models)), options_(std::move(options)) {
  require(sodium_init() >= 0, ErrorCode::Internal, "libsodium cannot start");
}

Api::Answer Api::handle(const HttpRequest& request) {
  try {
    return route(request);
  } catch (LoadFirst& first) {
    return std::move(first);
  } catch (const std::exception& error) {
    return response_to(error, form_of(request));
  }
}

std::optional<HttpResponse> Api::load(const HttpRequest& request, const LoadFirst& first) {
  try {
    models_->load(first.model);
    return std::nullopt;
  } catch (const std::exception& error) {
    return response_to(error, form_of(request));
  }
}

std::optional<HttpResponse> Api::refuse(const HttpRequest& request) const {
  try {
    check_access(request);
    return std::nullopt;
  } catch (const std::exception& error) {
    return response_to(error, form_of(request));
  }
}

std::vector<std::pair<std::string, std::string>> Api::cross_origin_headers(
    const HttpRequest& request) const {
  if (std::ranges::find(options_.origins, request.origin) == options_.origins.end()) return {};
  return {{"Access-Control-Allow-Origin", request.origin},
          {"Access-Control-Allow-Headers", "authorization, content-type, x-api-key"},
          {"Access-Control-Allow-Methods", "GET, POST, DELETE"},
          {"Vary", "Origin"}};
}

void Api::check_access(const HttpRequest& request) const {
  const std::string host = host_name(request.host);
  const bool known_host = host == "localhost" || is_address(host) ||
                          std::ranges::find(options_.hosts, host) != options_.hosts.end();
  if (!known_host) {
    throw ApiError(
        403, fmt::format("the host '{}' is not one of this server's names (--host-name)", host));
  }
  if (!request.origin.empty() &&
      std::ranges::find(options_.origins, request.origin) == options_.origins.end()) {
    const std::size_t scheme = request.origin.find("://");
    const bool own = scheme != std::string::npos &&
                     std::string_view(request.origin).substr(scheme + 3) == request.host;
    if (!own) {
      throw ApiError(403,
                     fmt::format("pages of {} may not ask this server (--origin)", request.origin));
    }
  }
  // A browser asks before it shows a key.
  if (request.method == "OPTIONS" || !wants_key()) return;
  const std::string_view shown = shown_key(request);
  bool known = false;  // all are compared, so that the time does not tell which
  for (const std::string& key : options_.keys) known |= same_key(key, shown);
  known = known || key_of(request).has_value();
  if (!known) {
    throw ApiError(401,
                   shown.empty() ? "this server wants a key: Authorization: Bearer KEY"
                                 : "the key is not one of this server's",
                   {}, "invalid_api_key");
  }
}

bool Api::wants_key() const {
  return !options_.keys.empty() || (options_.books && options_.books->has_keys());
}

std::optional<Key> Api::key_of(const HttpRequest& request) const {
  return options_.books ? options_.books->find(shown_key(request)) : std::nullopt;
}

std::uint64_t Api::cache_scope(const HttpRequest& request) const {
  if (!wants_key()) return 0;
  return cache_scope_of(shown_key(request));
}

std::span<const Api::Route> Api::routes() {
  constexpr auto chat = [](Api& api, const HttpRequest& r) { return api.generate(r, Kind::Chat); };
  constexpr auto text = [](Api& api, const HttpRequest& r) { return api.generate(r, Kind::Text); };
  constexpr auto models = [](Api& api, const HttpRequest&) -> Answer { return api.list_models(); };
  static const Route routes[] = {
      {"POST", "/v1/chat/completions", chat},
      {"POST", "/chat/completions", chat},
      {"POST", "/beta/chat/completions", chat},
      {"POST", "/v1/completions", text},
      {"POST", "/completions", text},
      {"POST", "/beta/completions", text},
      {"POST", "/v1/messages",
       [](Api& api, const HttpRequest& r) { return api.generate(r, Kind::Messages); }},
      {"POST", "/v1/responses",
       [](Api& api, const HttpRequest& r) { return api.generate(r, Kind::Responses); }},
      {"GET", "/v1/models", models},
      {"GET", "/models", models},
      {"POST", "/v1/pulls",
       [](Api& api, const HttpRequest& r) -> Answer { return api.pull(r, PullOrder::Start); }},
      {"POST", "/v1/pulls/cancel",
       [](Api& api, const HttpRequest& r) -> Answer { return api.pull(r, PullOrder::Cancel); }},
      {"GET", "/v1/pulls", [](Api& api, const HttpRequest&) -> Answer { return api.list_pulls(); }},
      {"DELETE", "/v1/context_cache",
       [](Api& api, const HttpRequest& r) -> Answer { return api.forget(r); }},
      {"GET", "/user/balance",
       [](Api& api, const HttpRequest& r) -> Answer { return api.balance(r); }},
      {"GET", "/health",
       [](Api&, const HttpRequest&) -> Answer { return json_response({{"status", "ok"}}); }},
      {"GET", "/ready",
       [](Api& api, const HttpRequest&) -> Answer {
         if (api.draining_) throw ApiError(503, "the server is going down");
         const auto all = api.models_->list();
         return json_response(
             {{"status", "ready"}, {"model", all.empty() ? Json() : Json(all.front().name)}});
       }},
      {"GET", "/metrics",
       [](Api& api, const HttpRequest&) -> Answer {
         HttpResponse response;
         response.content_type = "text/plain; version=0.0.4";
         response.body = api.metrics_.print(api.models_->stats(), api.models_->loaded().size());
         return response;
       }},
      {"GET", "/openapi.json",
       [](Api&, const HttpRequest& r) -> Answer {
         return json_response(openapi_document(r.scheme + "://" + r.host));
       }},
      {"POST", "/tokenize",
       [](Api& api, const HttpRequest& r) -> Answer { return api.tokenize(r); }},
      {"POST", "/detokenize",
       [](Api& api, const HttpRequest& r) -> Answer { return api.detokenize(r); }},
      {"POST", "/apply-template",
       [](Api& api, const HttpRequest& r) -> Answer { return api.apply_template(r); }},
  };
  return routes;
}

Api::Answer Api::route(const HttpRequest& request) {
  if (request.method == "OPTIONS") return HttpResponse{.status = 204, .body = {}};
  std::string allowed;
  for (const Route& route : routes()) {
    if (request.path != route.path) continue;
    if (request.method != route.method) {
      allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
      continue;
    }
    // A form on a web page cannot send JSON without asking first.
    if (request.method == "POST" && !request.content_type.starts_with("application/json")) {
      throw ApiError(
          415, fmt::format("the body must be application/json, but is '{}'", request.content_type));
    }
    return route.run(*this, request);
  }
  if (!allowed.empty()) {
    ApiError error(405, fmt::format("{} takes {}", request.path, allowed));
    HttpResponse response = error.response(form_of(request));
    response.headers.emplace_back("Allow", allowed);
    return response;
  }
  throw ApiError(404, fmt::format("there is nothing at {}", request.path));
}

ModelPool::Held Api::model_for(const Json& body, bool streams) const {
  const auto asked = Fields(body).text("model");
  ModelPool::Held held = models_->find(asked);
  if (!held) throw LoadFirst{asked, streams};
  return held;
}

Api::Answer Api::generate(const HttpRequest& request, Kind kind) {
  if (draining_) throw ApiError(503, "the server is going down");
  const Json body = parse_body(request.body);
  const ModelPool::Held held = model_for(body, Fields(body).boolean("stream").value_or(false));
  const ServedModel& model = *held;
  const std::uint64_t scope = cache_scope(request);
  check_queue(model, scope);
  AnswerObserver observe;
  observe.ended = [this](const AnswerRecord& record) { metrics_.count_answer(record); };
  if (options_.books) {
    const std::optional<Key> key = key_of(request);
    if (key) options_.books->admit(*key, unix_seconds());
    observe.settled = [books = options_.books, id = key ? key->id : 0, name = model.name,
                       price = model.price](const UsageSum& sum) {
      Charge charge{name, sum.cached, sum.prompt - sum.cached, sum.completion, sum.reasoning, 0};
      if (price) {
        charge.cost_nano = price->cost_nano(charge.cache_hit, charge.cache_miss, charge.completion);
      }
      books->record(id, charge, unix_seconds());
    };
  }
  const auto made = [&](auto make, auto asked) -> std::unique_ptr<Generation> {
    if (model.filter) screen_input(model, asked, body, metrics_);
    if (model.judges.empty()) return make(model, std::move(asked), scope, observe);
    JudgedRequest judged = judged_request(model, asked);
    judged.scope = scope;
    return std::make_unique<Judged>(make(model, std::move(asked), scope, observe), model.judges,
                                    std::move(judged), metrics_);
  };
  switch (kind) {
    case Kind::Messages:
      return made(messages_completion, read_messages_request(body, model));
    case Kind::Responses:
      return made(responses_completion, read_responses_request(body, model));
    case Kind::Text:
      return made(text_completion, read_text_request(body, model));
    case Kind::Chat:
      break;
  }
  return made(chat_completion, read_chat_request(body, model, options_.rules));
}

void Api::check_queue(const ServedModel& model, std::uint64_t account) const {
  const SchedulerStats stats = model.engine->stats();
  if (stats.waiting >= options_.max_waiting) {
    throw ApiError(429, "too many requests wait already");
  }
  // Of places in the queue too nobody gets all.
  const auto own = stats.waiting_of.find(account);
  if (wants_key() && own != stats.waiting_of.end() &&
      own->second >= (options_.max_waiting + 1) / 2) {
    throw ApiError(429, fmt::format("{} requests of this key wait already", own->second));
  }
}

/// DeepSeek's form: what the key may still spend. A key without such a limit has no balance.
HttpResponse Api::balance(const HttpRequest& request) const {
  const std::optional<Key> key = key_of(request);
  Json infos = Json::array();
  bool available = true;
  if (key && key->limits.spend_nano) {
    const std::int64_t left = *key->limits.spend_nano - key->spent_nano;
    available = left > 0;
    const std::string amount = fmt::format("{:.2f}", dollars(std::max<std::int64_t>(left, 0)));
    infos.push_back({{"currency", "USD"},
                     {"total_balance", amount},
                     {"granted_balance", amount},
                     {"topped_up_balance", "0.00"}});
  }
  return json_response({{"is_available", available}, {"balance_infos", std::move(infos)}});
}

HttpResponse Api::list_models() const {
  Json data = Json::array();
  for (const ModelSource& source : models_->list()) {
    data.push_back({{"id", source.name},
                    {"object", "model"},
                    {"created", source.created},
                    {"owned_by", "fathom"}});
  }
  return json_response({{"object", "list"}, {"data", std::move(data)}});
}

HttpResponse Api::forget(const HttpRequest& request) const {
  std::optional<std::uint64_t> scope;
  if (wants_key()) scope = cache_scope(request);
  std::size_t sequences = 0;
  for (const ModelPool::Held& model : models_->loaded()) {
    sequences += model->engine->forget(scope);
    for (const auto& judge : model->judges) sequences += judge->forget(scope);
  }
  // After the engines, which could still have written pages.
  const std::size_t pages = options_.context_store ? options_.context_store->forget(scope) : 0;
  return json_response(
      {{"object", "context_cache"}, {"deleted", true}, {"sequences", sequences}, {"pages", pages}});
}

HttpResponse Api::pull(const HttpRequest& request, PullOrder order) const {
  const Json body = parse_body(request.body);
  Fields(body).need("model");
  const std::string model = *Fields(body).text("model");
  if (!options_.pulls) {
    throw ApiError(403, "this server fetches no models for its users (--allow-pull)");
  }
  return json_response(order == PullOrder::Start ? options_.pulls->pull(model)
                                                 : options_.pulls->cancel(model));
}

HttpResponse Api::list_pulls() const {
  if (options_.pulls) return json_response(options_.pulls->list());
  return json_response({{"object", "list"}, {"allowed", Json::array()}, {"data", Json::array()}});
}

HttpResponse Api::tokenize(const HttpRequest& request) const {
  const Json json = parse_body(request.body);
  const Fields body(json);
  body.need("content");
  const EncodeOptions options{.add_special = body.boolean("add_special").value_or(false),
                              .parse_special = body.boolean("parse_special").value_or(false)};
  return json_response({{"tokens", ids_json(model_for(json)->engine->tokenizer().encode(
                                       *body.text("content"), options))}});
}

HttpResponse Api::detokenize(const HttpRequest& request) const {
  const Json json = parse_body(request.body);
  const Fields body(json);
  body.need("tokens");
  const ModelPool::Held model = model_for(json);
  const auto vocabulary = static_cast<std::int64_t>(model->engine->tokenizer().vocab_size());
  const std::vector<TokenId> ids = read_token_ids(*body.array("tokens"), "tokens", vocabulary);
  return json_response({{"content", model->engine->tokenizer().decode(ids)}});
}

HttpResponse Api::apply_template(const HttpRequest& request) const {
  const Json body = parse_body(request.body);
  const ModelPool::Held held = model_for(body);
  const ServedModel& model = *held;
  const ChatPrompt prompt = chat_prompt(model, read_chat_request(body, model, options_.rules));
  return json_response({{"prompt", prompt.text}, {"tokens", ids_json(prompt.tokens)}});
}

}  // namespace fathom::server
