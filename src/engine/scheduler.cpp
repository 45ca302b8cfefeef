#include "engine/scheduler.h"

#include <algorithm>
#include <new>
#include <tuple>
#include <utility>

#include "engine/step_observer.h"
#include "engine/tokenizer_loader.h"

namespace fathom {
namespace {

double seconds_between(Job::Clock::time_point from, Job::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Whether the cache knows as much of one as of the other.
bool begins_as(const Job& job, const Job& other) {
  return job.request.cache_scope == other.request.cache_scope &&
         job.request.record_routing == other.request.record_routing && job.tokens == other.tokens;
}

std::size_t choose_context(const ModelConfig& config, const SchedulerOptions& options) {
  const auto trained =
      static_cast<std::size_t>(std::max<std::int64_t>(config.max_position_embeddings, 1));
  std::size_t context = options.context_tokens == 0 ? trained : options.context_tokens;
  require(context <= trained, ErrorCode::InvalidArgument,
          "a context of {} tokens is more than the {} that the model was made for", context,
          trained);
  if (options.cache.capacity_tokens != 0) {
    context = std::min(context, options.cache.capacity_tokens);
  }
  return context;
}

KvCacheOptions cache_options(const SchedulerOptions& options, std::size_t context_tokens) {
  KvCacheOptions cache = options.cache;
  // One page more than the context: growing into a page that a finished conversation shares takes
  // a copy of it.
  if (cache.capacity_tokens == 0) cache.capacity_tokens = context_tokens + KvCache::kPageTokens;
  return cache;
}

}  // namespace

Job::Job(Request asked, EventSink to, const Tokenizer& tokenizer, std::size_t vocab_size)
    : request(std::move(asked)),
      sink(std::move(to)),
      sampler(request.sampling, vocab_size),
      answer(request, tokenizer),
      grammar(request),
      tokens(request.prompt),
      submitted(Clock::now()) {
  sampler.add_prompt(tokens);
  if (request.reasoning && request.max_thinking_tokens) {
    thought_end = tokenizer.encode("\n" + request.reasoning->markers.close_text + "\n\n",
                                   {.add_special = false, .parse_special = true});
  }
  usage.prompt_tokens = tokens.size();
}

Scheduler::Scheduler(Model& model, const Tokenizer& tokenizer, const SchedulerOptions& options)
    : model_(model),
      tokenizer_(tokenizer),
      options_(options),
      context_tokens_(choose_context(model.config(), options)),
      vocab_size_(usable_vocabulary(model.config(), tokenizer)),
      choices_(choices_per_token(model.config())),
      cache_(model.make_cache(cache_options(options, context_tokens_))) {
  require(options.prompt_chunk > 0 && options.max_active > 0, ErrorCode::InvalidArgument,
          "a scheduler needs room for at least one request and one token a step");
}

void SchedulerCounts::count_step(std::size_t requests, std::size_t tokens) {
  ++steps;
  step_requests += requests;
  step_tokens += tokens;
  const auto least = std::ranges::lower_bound(kRequests, requests);
  if (least != kRequests.end()) ++steps_of[static_cast<std::size_t>(least - kRequests.begin())];
}

void SchedulerCounts::add(const SchedulerCounts& other) {
  preemptions += other.preemptions;
  guessed_tokens += other.guessed_tokens;
  right_guesses += other.right_guesses;
  steps += other.steps;
  step_requests += other.step_requests;
  step_tokens += other.step_tokens;
  for (std::size_t i = 0; i < steps_of.size(); ++i) steps_of[i] += other.steps_of[i];
}

void Scheduler::add(std::shared_ptr<Job> job) {
  shares_.enter(job->request.account);
  ++waiting_of_[job->request.account];
  waiting_.push_back(std::move(job));
}

void Scheduler::waits_no_more(const Job& job) {
  const auto account = waiting_of_.find(job.request.account);
  if (--account->second == 0) waiting_of_.erase(account);
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats{waiting_.size(),     active_.size(),       idle_.size(),
                       cache_.bytes_used(), cache_.free_tokens(), counts_};
  stats.waiting_of = waiting_of_;
  if (options_.context_store) stats.store = options_.context_store->stats();
  return stats;
}

void Scheduler::cancel_all() {
  while (!active_.empty()) finish(*active_.back(), FinishReason::Cancelled);
  waiting_of_.clear();
  for (const auto& job : std::exchange(waiting_, {})) finish(*job, FinishReason::Cancelled);
}

void Scheduler::fail_active(const Error& error) {
  while (!active_.empty()) {
    const std::shared_ptr<Job> job = active_.back();
    retire(*job, /*keep_sequence=*/false);  // how far it had got is not known
    finish(*job, FinishReason::Failed, error);
  }
}

void Scheduler::drop_cancelled() {
  for (std::size_t i = active_.size(); i-- > 0;) {
    const std::shared_ptr<Job> job = active_[i];
    if (job->cancelled) finish(*job, FinishReason::Cancelled);
  }
  std::erase_if(waiting_, [&](const std::shared_ptr<Job>& job) {
    if (!job->cancelled) return false;
    waits_no_more(*job);
    finish(*job, FinishReason::Cancelled);
    return true;
  });
}

std::optional<std::size_t> Scheduler::next_waiting(Places& places) const {
  using Had = std::tuple<std::ptrdiff_t, std::uint64_t, std::size_t>;
  std::optional<Had> least;
  for (const auto& [account, count] : waiting_of_) {
    std::size_t& at = places[account];
    while (at < waiting_.size() && waiting_[at]->request.account != account) ++at;
    if (at == waiting_.size()) continue;
    const auto at_work = std::ranges::count_if(
        active_, [&](const auto& job) { return job->request.account == account; });
    const Had had{at_work, shares_.paid(account), at};
    if (!least || had < *least) least = had;
  }
  if (!least) return {};
  return std::get<2>(*least);
}

void Scheduler::admit() {
  Places places;
  std::shared_ptr<Job> passed;  // the last whose prompt is being read by others
  while (active_.size() < options_.max_active) {
    const std::optional<std::size_t> next = next_waiting(places);
    if (!next) return;
    const std::shared_ptr<Job> job = waiting_[*next];
    std::size_t& place = places[job->request.account];
    // Thousands of answers to one prompt may wait one behind the other: as the first, so the rest.
    if (passed && begins_as(*job, *passed)) {
      ++place;
      continue;
    }
    const Match match = find_match(*job);
    if (is_being_read(*job, match.tokens)) {
      passed = job;
      ++place;
      continue;
    }
    // Room for its prompt and a page of answer, or it would soon be sent back. A lone request is
    // let in regardless: there is nobody to wait for.
    const std::size_t wanted = job->tokens.size() - match.tokens + KvCache::kPageTokens;
    while (cache_.free_tokens() < wanted && evict_idle(match.source)) {
    }
    if (cache_.free_tokens() < wanted && !active_.empty()) return;
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(*next));
    for (auto& [account, at] : places) at -= at > *next ? 1 : 0;
    waits_no_more(*job);
    start(*job, match);
    active_.push_back(job);
  }
}

void Scheduler::start(Job& job, const Match& match) {
  job.fed = match.tokens;
  take_routing(job, match);
  const auto idle = std::find_if(idle_.begin(), idle_.end(),
                                 [&](const Idle& each) { return each.sequence == match.source; });
  if (!match.source) {
    job.sequence = cache_.create();
  } else if (idle != idle_.end() && idle->tokens.size() == match.tokens) {
    // The conversation goes on where this sequence ended: it is taken over whole.
    job.sequence = idle->sequence;
    idle_.erase(idle);
  } else {
    job.sequence = cache_.fork(*match.source, match.tokens);
    if (idle != idle_.end()) std::rotate(idle, idle + 1, idle_.end());  // now the last used
  }
  if (!job.request.record_routing) load_pages(job);
  if (job.started) return;  // it was sent back, and goes on
  job.started = true;
  job.begun = Job::Clock::now();
  job.usage.cached_tokens = job.fed;
  job.usage.queue_seconds = seconds_between(job.submitted, job.begun);
}

std::vector<Scheduler::Share> Scheduler::plan(Batch& batch) const {
  batch.clear();
  std::vector<Share> shares;
  std::size_t budget = model_.max_batch();
  const auto take = [&](const std::shared_ptr<Job>& job, std::size_t count) {
    const bool last = count == job->unfed();
    std::size_t at = job->fed;
    const auto add = [&](TokenId token, bool logits) {
      batch.add(token, *job->sequence, Position{static_cast<std::int32_t>(at++)}, logits);
    };
    for (std::size_t i = 0; i < count; ++i) add(job->tokens[at], last && i + 1 == count);
    for (const TokenId token : job->guess) add(token, true);
    shares.push_back({job, count, last, job->guess.size()});
    budget -= shares.back().tokens();
  };
  for (const auto& job : active_) {
    if (job->writing() && budget > 0) take(job, 1);
  }
  // Beside answers prompts get a small share of each step, so that the answers keep flowing; alone,
  // all the model can take. They are read in the order of what their accounts have had, then of
  // their arrival.
  if (!shares.empty()) budget = std::min(budget, options_.prompt_chunk);
  std::vector<std::pair<std::uint64_t, std::size_t>> reading;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    if (!active_[i]->writing()) reading.emplace_back(shares_.paid(active_[i]->request.account), i);
  }
  std::ranges::sort(reading);
  for (const auto& [paid, i] : reading) {
    if (budget > 0) take(active_[i], std::min(active_[i]->unfed(), budget));
  }
  return shares;
}

void Scheduler::guess() {
  const bool all_write = std::ranges::all_of(
      active_, [](const auto& job) { return job->writing() && !job->request.record_routing; });
  const std::size_t writers = active_.size();
  const std::size_t most =
      std::min({PassTimes::kMostTokens, model_.max_batch(), writers + options_.speculate});
  if (!all_write || writers == 0 || writers >= most) return;
  std::size_t tokens = writers;
  auto written = static_cast<double>(writers);
  for (const auto& job : active_) {
    // An even share each; never past the context's or the answer's end.
    std::size_t offered = std::min((most - writers) / writers, most - tokens);
    offered = std::min(offered, context_tokens_ - job->tokens.size());
    if (const std::size_t limit = job->request.max_tokens; limit != 0) {
      offered = std::min(offered, limit - job->usage.completion_tokens - 1);
    }
    std::vector<TokenId> guess = job->lookup.guess(job->tokens, offered);
    guess.resize(worthwhile(pass_times_, job->guesses_so_far, tokens, written, guess.size()));
    if (guess.empty()) job->guesses_so_far.idle();
    written += job->guesses_so_far.expected(guess.size());
    tokens += guess.size();
    job->guess = std::move(guess);
  }
}

bool Scheduler::drop_guesses() {
  bool any = false;
  for (const auto& job : active_) any = !std::exchange(job->guess, {}).empty() || any;
  return any;
}

bool Scheduler::run(Batch& batch, std::vector<Share>& shares, Logits& logits) {
  if (options_.speculate > 0) guess();
  while (true) {
    shares = plan(batch);
    if (shares.empty()) return false;
    std::vector<StepObserver::Part> parts;
    for (const Share& share : shares) {
      Job& job = *share.job;
      std::int32_t* routing = nullptr;
      if (job.request.record_routing) {
        job.routing.resize((job.fed + share.count) * choices_);
        routing = job.routing.data() + job.fed * choices_;
      }
      parts.push_back({&job.cancelled, share.tokens(), routing});
    }
    StepObserver observer(std::move(parts), choices_);
    try {
      const Job::Clock::time_point begin = Job::Clock::now();
      logits = model_.forward(batch, cache_, observer.wanted() ? &observer : nullptr);
      const std::chrono::duration<double> took = Job::Clock::now() - begin;
      pass_times_.took(batch.size(),
                       options_.pass_seconds
                           ? std::chrono::duration<double>(options_.pass_seconds(batch.size()))
                           : took);
      counts_.count_step(shares.size(), batch.size());
      return true;
    } catch (const Error& error) {
      // The cache is as before: what was read of the prompt so far stays for the next question.
      const bool guessed = drop_guesses();
      if (error.code() == ErrorCode::Cancelled) {
        drop_cancelled();
        return false;
      }
      if (error.code() == ErrorCode::ResourceLimit && (guessed || make_room())) continue;
      // What the cache now holds of these sequences is not known, so they are not kept.
      for (const Share& share : shares) {
        if (!share.job->sequence) continue;  // ended by make_room()
        retire(*share.job, /*keep_sequence=*/false);
        finish(*share.job, FinishReason::Failed, error);
      }
      return false;
    }
  }
}

bool Scheduler::make_room() {
  if (evict_idle()) return true;
  if (active_.empty()) return false;
  const std::shared_ptr<Job> youngest = active_.back();
  if (active_.size() == 1) {
    finish(*youngest, FinishReason::Length);
    return true;
  }
  if (!youngest->leaves_nothing) {
    save_pages(*youngest->sequence, std::span(youngest->tokens).first(youngest->fed),
               youngest->request.cache_scope, /*wait=*/false);
  }
  retire(*youngest, /*keep_sequence=*/false);
  youngest->fed = 0;
  ++waiting_of_[youngest->request.account];
  waiting_.push_front(youngest);
  ++counts_.preemptions;
  return true;
}

void Scheduler::step() {
  drop_cancelled();
  admit();
  Batch batch;
  std::vector<Share> shares;
  Logits logits;
  if (!run(batch, shares, logits)) return;

  draw_ahead(shares, logits);
  std::size_t row = 0;
  for (const Share& share : shares) {
    Job& job = *share.job;
    shares_.charge(job.request.account,
                   job.writing() ? FairShare::kWriteCost : share.count * FairShare::kReadCost);
    job.fed += share.count;
    if (share.wants_logits) {
      take_tokens(job, logits, row);
      row += share.rows();
    } else {
      job.sink(PromptProgress{job.fed, job.tokens.size()});
    }
  }
}

void Scheduler::take_tokens(Job& job, const Logits& logits, std::size_t row) {
  const std::vector<TokenId> guess = std::exchange(job.guess, {});
  counts_.guessed_tokens += guess.size();
  for (std::size_t i = 0;; ++i) {
    take_token(job, logits.row(row + i).first(vocab_size_));
    if (!job.sequence) return;  // it has ended
    if (i == guess.size()) break;
    if (job.tokens.back() != guess[i]) {
      job.guesses_so_far.wrong();
      break;
    }
    job.guesses_so_far.right();
    ++counts_.right_guesses;
    ++job.fed;
  }
  if (!guess.empty()) cache_.truncate(*job.sequence, job.fed);
}

void Scheduler::draw_ahead(std::span<const Share> shares, const Logits& logits) {
  struct Draw {
    Job* job;
    std::span<const float> logits;
  };
  std::vector<Draw> draws;
  std::size_t row = 0;
  for (const Share& share : shares) {
    if (!share.wants_logits) continue;
    const std::span<const float> own = logits.row(row).first(vocab_size_);
    row += share.rows();
    if (share.job->draws_freely()) draws.push_back({share.job.get(), own});
  }
  if (draws.size() < 2) return;
  model_.for_each(draws.size(), [&](std::size_t i) {
    try {
      draws[i].job->drawn = draws[i].job->sampler.sample(draws[i].logits);
    } catch (const std::exception&) {
      // Told of when it is drawn alone, in its own request.
    }
  });
}

void Scheduler::take_token(Job& job, std::span<const float> logits) {
  const Job::Clock::time_point now = Job::Clock::now();
  SampledToken token;
  try {
    token = next_token(job, logits);
  } catch (const Error& error) {
    return finish(job, FinishReason::Failed, error);
  }
  job.tokens.push_back(token.id);
  if (job.usage.completion_tokens++ == 0) {
    job.first_token = now;
    job.usage.prompt_seconds = seconds_between(job.begun, now);
  }
  job.usage.generation_seconds = seconds_between(job.first_token, now);
  if (job.answer.channel() == Channel::Reasoning) ++job.usage.reasoning_tokens;

  const bool circles = job.request.stop_repetition && job.repetition.push(token.id);
  emit(job, job.answer.push(token.id), std::move(token));
  if (job.answer.stopped()) return finish(job, FinishReason::Stop);
  if (job.grammar.ended()) {
    emit(job, job.answer.finish(), {});
    return finish(job, FinishReason::Stop);
  }
  const std::size_t limit = job.request.max_tokens;
  if ((limit != 0 && job.usage.completion_tokens >= limit) ||
      job.tokens.size() >= context_tokens_) {
    return finish(job, FinishReason::Length);
  }
  if (circles) finish(job, FinishReason::Repetition);
}

SampledToken Scheduler::next_token(Job& job, std::span<const float> logits) {
  if (job.drawn) return *std::exchange(job.drawn, std::nullopt);
  const Request& request = job.request;
  const bool too_long = !job.thought_end.empty() && !job.thought_closed &&
                        job.answer.channel() == Channel::Reasoning &&
                        job.usage.reasoning_tokens >= *request.max_thinking_tokens;
  if (too_long) {
    job.thought_closed = true;
    job.forced.assign(job.thought_end.begin(), job.thought_end.end());
  }
  if (job.forced.empty()) {
    const bool thinks = job.answer.channel() == Channel::Reasoning;
    SampledToken token =
        job.sampler.sample(logits, thinks ? nullptr : job.grammar.allowed(vocab_size_, mask_));
    if (!thinks) job.grammar.follow(token.id, tokenizer_.piece(token.id));
    return token;
  }
  SampledToken token;
  token.id = job.forced.front();
  job.forced.pop_front();
  job.sampler.add_prompt({&token.id, 1});  // nobody chose it
  return token;
}

void Scheduler::emit(Job& job, std::vector<Segment> segments, std::optional<SampledToken> token) {
  // Every token is told of, even if its text is still to come.
  if (segments.empty() && token) segments.push_back({job.answer.channel(), {}});
  for (Segment& segment : segments) {
    job.sink(Delta{segment.channel, std::move(segment.text), std::exchange(token, {})});
  }
}

void Scheduler::retire(Job& job, bool keep_sequence) {
  if (job.sequence) {
    if (keep_sequence) cache_.truncate(*job.sequence, job.fed);  // without guesses that were wrong
    if (!keep_sequence || !keep_idle(job)) cache_.remove(*job.sequence);
    job.sequence.reset();
  }
  std::erase_if(active_, [&](const std::shared_ptr<Job>& other) { return other.get() == &job; });
}

void Scheduler::finish(Job& job, FinishReason reason, std::optional<Error> error) {
  if (reason != FinishReason::Stop) emit(job, job.answer.finish(), {});
  Finished end{reason, job.answer.stop_string(), std::move(error), job.usage};
  if (job.request.record_routing) {
    job.routing.resize(job.fed * choices_);  // what a failed pass wrote does not count
    end.routing = std::move(job.routing);
  }
  // The sink may hold the last reference that keeps a caller waiting: nothing of the job is used
  // after it.
  const EventSink sink = std::move(job.sink);
  shares_.leave(job.request.account);
  retire(job, /*keep_sequence=*/true);
  sink(std::move(end));
}

}  // namespace fathom
