// Which tokens the model computes next: continuous batching without threads.
//
// Requests join and leave between steps. In each step every request that is writing gets its next
// token, and what is left of the step's budget reads prompts, a chunk at a time, so that a long
// prompt does not silence the answers beside it. Whose request starts and whose prompt is read next
// is shared out between accounts (fair_share.h). Finished sequences stay in the cache until their
// room is needed; a prompt that begins like one of them, or like a running one, starts from its
// pages.
//
// When the cache is full, idle sequences go first, least recently used first; then the youngest
// request gives up its place and starts again later, with what it has written as part of its
// prompt; a request that is alone and still finds no room ends with `length`.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/answer.h"
#include "engine/answer_grammar.h"
#include "engine/context_store.h"
#include "engine/fair_share.h"
#include "engine/repetition.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/speculation.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

struct SchedulerOptions {
  std::size_t context_tokens = 0;  // of one request; 0: what the model was made for
  KvCacheOptions cache;            // capacity_tokens 0: context_tokens
  std::size_t prompt_chunk = 128;  // tokens read in a step while others write
  std::size_t max_active = 16;     // requests computed at once
  std::size_t max_idle = 64;       // finished sequences kept for reuse
  std::size_t speculate = 0;       // next tokens guessed and checked in a pass, of all requests
  /// Where pages go when the cache forgets them, and come back from. May be null.
  std::shared_ptr<ContextStore> context_store = {};
  std::string context_fingerprint = {};  // of this model and engine, for PageNames
  /// Seconds that a pass of so many tokens counts for, in place of what it took: so that a test's
  /// guesses do not depend on what else the machine does.
  std::function<double(std::size_t tokens)> pass_seconds = {};
};

/// What was done since the start.
struct SchedulerCounts {
  std::size_t preemptions = 0;
  std::size_t guessed_tokens = 0;
  std::size_t right_guesses = 0;  // of those
  std::size_t steps = 0;          // passes through the model
  std::size_t step_requests = 0;  // requests that were in them, added up
  std::size_t step_tokens = 0;    // tokens, guessed ones included
  /// Steps with at most as many requests as kRequests has in that place, more than in the one
  /// before.
  static constexpr std::array<std::size_t, 7> kRequests{1, 2, 4, 8, 16, 32, 64};
  std::array<std::size_t, kRequests.size()> steps_of = {};

  void count_step(std::size_t requests, std::size_t tokens);
  void add(const SchedulerCounts& other);
};

struct SchedulerStats {
  std::size_t waiting = 0;
  std::size_t active = 0;
  std::size_t idle_sequences = 0;
  std::size_t cache_bytes = 0;
  std::size_t cache_free_tokens = 0;
  SchedulerCounts counts = {};
  std::map<std::uint64_t, std::size_t> waiting_of = {};  // by account
  ContextStoreStats store = {};
};

/// A request on its way through the scheduler.
struct Job {
  using Clock = std::chrono::steady_clock;

  Job(Request request, EventSink sink, const Tokenizer& tokenizer, std::size_t vocab_size);

  Request request;
  EventSink sink;
  std::atomic<bool> cancelled = false;  // set from any thread

  Sampler sampler;
  Answer answer;
  AnswerGrammar grammar;
  RepetitionGuard repetition;
  std::vector<TokenId> tokens;          // prompt, then answer
  std::vector<TokenId> thought_end;     // what closes a thought that is too long
  std::deque<TokenId> forced;           // to come next, whatever the model says
  std::optional<SampledToken> drawn;    // the next token, if it was drawn ahead
  bool thought_closed = false;          // thought_end has been forced: once is enough
  std::size_t fed = 0;                  // how many of them the cache holds
  std::optional<SequenceId> sequence;   // while active
  bool leaves_nothing = false;          // in the cache, at its end
  bool started = false;                 // has been active before
  std::optional<PageNames> page_names;  // made when they are first asked for
  std::vector<std::int32_t> routing;    // of `fed` tokens, if that is asked for
  TokenLookup lookup;
  GuessRecord guesses_so_far;
  std::vector<TokenId> guess;  // of what follows `tokens`, to be checked in this step
  Usage usage;
  Clock::time_point submitted, begun, first_token;

  std::size_t unfed() const { return tokens.size() - fed; }
  bool writing() const { return usage.completion_tokens > 0 && unfed() == 1; }
  /// Nothing but its logits decides on the next token.
  bool draws_freely() const {
    return !request.constraint && !request.max_thinking_tokens && forced.empty();
  }
};

/// Not thread-safe: the Engine calls it from its one thread.
class Scheduler {
 public:
  Scheduler(Model& model, const Tokenizer& tokenizer, const SchedulerOptions& options);

  /// Longest prompt and answer together, in tokens.
  std::size_t context_tokens() const { return context_tokens_; }
  /// Logits beyond the tokenizer's vocabulary are padding of the embedding table.
  std::size_t vocab_size() const { return vocab_size_; }

  void add(std::shared_ptr<Job> job);
  bool has_work() const { return !waiting_.empty() || !active_.empty(); }
  /// Ends cancelled requests, starts waiting ones, runs the model once.
  void step();
  /// Ends every request with FinishReason::Cancelled.
  void cancel_all();
  /// Drops what is kept for reuse, of all scopes or of one: how many sequences. Requests at work go
  /// on, and leave nothing.
  std::size_t forget(std::optional<std::uint64_t> scope);
  /// Hands all that is kept for reuse to the context store, and waits for room in its queue.
  void save_idle();
  /// After step() has thrown: ends what it worked on as failed. Requests that wait go on waiting.
  void fail_active(const Error& error);

  SchedulerStats stats() const;

 private:
  /// A finished sequence that a later prompt may continue.
  struct Idle {
    SequenceId sequence;
    std::vector<TokenId> tokens;  // exactly what the cache holds
    std::uint64_t scope;
  };
  /// The live sequence that begins most like a job's tokens.
  struct Match {
    std::optional<SequenceId> source;
    std::size_t tokens = 0;  // how many they share
  };
  /// A job's part of a batch: its next tokens, then its guess.
  struct Share {
    std::shared_ptr<Job> job;
    std::size_t count;
    bool wants_logits;  // of the last token, and of all guessed ones
    std::size_t guessed = 0;
    std::size_t tokens() const { return count + guessed; }
    std::size_t rows() const { return wants_logits ? 1 + guessed : 0; }
  };

  void drop_cancelled();
  /// Of a job that leaves waiting_.
  void waits_no_more(const Job& job);
  void admit();
  /// By account: where in waiting_ its next request is looked for. Those before have been passed.
  using Places = std::map<std::uint64_t, std::size_t>;
  /// Where in waiting_ the request is that starts next: of the account with the fewest at work,
  /// then of the one that has had least, then the first that came. Nothing if all have been passed.
  std::optional<std::size_t> next_waiting(Places& places) const;
  Match find_match(const Job& job) const;
  /// The experts of the tokens that a job's sequence begins with, from the request that had them.
  void take_routing(Job& job, const Match& match) const;
  /// Whether an active request is just now reading much that the job begins with too, beyond what
  /// is known, so that waiting saves work: several answers to one prompt are asked for at once.
  bool is_being_read(const Job& job, std::size_t known) const;
  /// Gives the job a sequence that begins with the match.
  void start(Job& job, const Match& match);
  PageNames& names_of(Job& job) const;
  /// Goes on with pages from the context store, after those that the job's sequence begins with.
  void load_pages(Job& job);
  /// Hands full pages that are about to be forgotten to the context store, if there is one.
  void save_pages(SequenceId sequence, std::span<const TokenId> tokens, std::uint64_t scope,
                  bool wait);
  /// Guesses what requests write next, if nothing else is to be done in this step and checking is
  /// likely to pay.
  void guess();
  /// Takes guesses back; whether there were any.
  bool drop_guesses();
  std::vector<Share> plan(Batch& batch) const;
  /// Runs the batch, making room as needed; false if there is nothing left to run.
  bool run(Batch& batch, std::vector<Share>& shares, Logits& logits);
  /// Draws the next tokens of several requests at once, where nothing but logits decides on them.
  void draw_ahead(std::span<const Share> shares, const Logits& logits);
  void take_token(Job& job, std::span<const float> logits);
  /// Takes tokens as long as they are those that were guessed, and one more. logits: [1 + guessed].
  void take_tokens(Job& job, const Logits& logits, std::size_t row);
  /// The model's choice, or what a thought that is too long ends with. Throws as Sampler::sample().
  SampledToken next_token(Job& job, std::span<const float> logits);
  void emit(Job& job, std::vector<Segment> segments, std::optional<SampledToken> token);
  /// Makes room in the cache by one step; false if nothing is left to give up.
  bool make_room();
  void finish(Job& job, FinishReason reason, std::optional<Error> error = {});
  /// Keeps the job's sequence for reuse, if there is room and memory for it.
  bool keep_idle(const Job& job);
  /// Removes finished jobs from active_; keeps their sequences for reuse.
  void retire(Job& job, bool keep_sequence);
  /// Forgets the idle sequence that was not used for longest; false if there is none.
  bool evict_idle(std::optional<SequenceId> except = {});

  Model& model_;
  Tokenizer tokenizer_;
  SchedulerOptions options_;
  std::size_t context_tokens_;
  std::size_t vocab_size_;
  std::size_t choices_;  // of experts, for a token
  KvCache cache_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::map<std::uint64_t, std::size_t> waiting_of_;  // how many of each account, if any
  std::vector<std::shared_ptr<Job>> active_;         // oldest first
  FairShare shares_;                                 // of all accounts with requests
  std::deque<Idle> idle_;                            // least recently used first
  SchedulerCounts counts_;
  PassTimes pass_times_;
  grammar::TokenMask mask_;  // room for AnswerGrammar::allowed()
};

}  // namespace fathom
