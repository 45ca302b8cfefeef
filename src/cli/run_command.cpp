// `fathom run`: one answer to a prompt, or a conversation at the terminal.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "backend/cpu/kernel_trace.h"
#include "base/memory.h"
#include "cli/chat_repl.h"
#include "cli/chat_session.h"
#include "cli/chat_settings.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/kept_words.h"
#include "cli/model_loader.h"
#include "cli/terminal.h"
#include "engine/chat.h"
#include "engine/sampling_defaults.h"
#include "formats/describe.h"

namespace fathom {
namespace {

struct RunOptions {
  ModelArguments model;
  SettingOptions settings;
  std::vector<std::string> prompt;
  std::string system;
  std::optional<std::int32_t> logprobs;
  bool raw = false;
  bool no_history = false;
  std::string encryption_key;
};

/// A pipe or a file holds the rest of the prompt; a device such as /dev/null, or a terminal, not.
bool stdin_holds_text() {
  struct stat status{};
  if (::fstat(STDIN_FILENO, &status) != 0) return false;
  return S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode);
}

std::string gather_prompt(const std::vector<std::string>& words) {
  std::string prompt;
  for (const std::string& word : words) prompt += (prompt.empty() ? "" : " ") + word;
  if (!stdin_is_terminal() && (words.empty() || stdin_holds_text())) {
    std::string rest = read_stdin();
    while (!rest.empty() && rest.back() == '\n') rest.pop_back();
    if (!prompt.empty() && !rest.empty()) prompt += "\n\n";
    prompt += rest;
  }
  require(!prompt.empty(), ErrorCode::InvalidArgument,
          "there is no prompt: give one as an argument or through a pipe, or run in a terminal to "
          "chat");
  return prompt;
}

nlohmann::ordered_json logprobs_json(const Turn& turn, const Tokenizer& tokenizer) {
  const auto entry = [&](TokenId id, float logprob) {
    const std::string_view bytes = tokenizer.piece(id);
    nlohmann::ordered_json json{{"id", value(id)}, {"token", bytes}, {"logprob", logprob}};
    json["bytes"] =
        std::vector<int>(reinterpret_cast<const unsigned char*>(bytes.data()),
                         reinterpret_cast<const unsigned char*>(bytes.data()) + bytes.size());
    return json;
  };
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const SampledToken& token : turn.tokens) {
    nlohmann::ordered_json json = entry(token.id, token.logprob);
    json["top"] = nlohmann::ordered_json::array();
    for (const TokenLogprob& other : token.top)
      json["top"].push_back(entry(other.id, other.logprob));
    list.push_back(std::move(json));
  }
  return list;
}

nlohmann::ordered_json turn_json(const Turn& turn, const std::string& model,
                                 const std::string& precision, const Tokenizer& tokenizer,
                                 bool logprobs) {
  const Usage& usage = turn.end.usage;
  nlohmann::ordered_json json{{"model", model}, {"content", turn.answer}};
  if (!turn.reasoning.empty()) json["reasoning_content"] = turn.reasoning;
  json["finish_reason"] = to_string(turn.end.reason);
  if (!turn.end.stop_string.empty()) json["stop_string"] = turn.end.stop_string;
  json["seed"] = turn.seed;
  json["usage"] = {{"prompt_tokens", usage.prompt_tokens},
                   {"completion_tokens", usage.completion_tokens},
                   {"reasoning_tokens", usage.reasoning_tokens}};
  json["timings"] = {{"first_token_seconds", usage.queue_seconds + usage.prompt_seconds},
                     {"prompt_tokens_per_second", usage.prompt_rate()},
                     {"generation_seconds", usage.generation_seconds},
                     {"generation_tokens_per_second", usage.generation_rate()}};
  json["precision"] = precision;
  json["kernels"] = cpu::product_kernels_ran();
  const ResidentMemory memory = resident_memory();
  json["memory"] = {{"resident_bytes", memory.now}, {"peak_bytes", memory.peak}};
  if (logprobs) json["logprobs"] = logprobs_json(turn, tokenizer);
  return json;
}

void answer_once(ChatSession& session, const Engine& engine, const std::string& precision,
                 const std::string& prompt, const RunOptions& options, Context& context) {
  const InterruptGuard guard;
  PrinterOptions looks = printer_options(session.settings.view);
  if (!looks.terminal && session.settings.view == ThinkingView::Fold) {
    looks.thinking = ThinkingView::Hide;
  }
  looks.silent = context.json;
  AnswerPrinter printer(looks);
  const Turn turn = session.ask(prompt, printer);
  if (context.json) {
    print_json(turn_json(turn, options.model.model, precision, engine.tokenizer(),
                         session.settings.sampling.logprobs.has_value()));
  } else if (session.settings.stats) {
    print_note(context, describe_usage(turn.end.usage));
  }
  if (turn.end.reason == FinishReason::Repetition) {
    print_note(context, "[ended: the answer only repeated itself; --allow-loops lets it go on]");
  } else if (turn.end.reason == FinishReason::Length && fills_context(turn.end.usage, engine)) {
    print_note(context, "[cut: the context is full; --context N makes it longer]");
  }
  if (turn.end.reason == FinishReason::Cancelled) context.exit_code = ExitCode::Interrupted;
}

void run(const RunOptions& options, Context& context) {
  const bool chat = options.prompt.empty() && stdin_is_terminal() && stdout_is_terminal();
  require(!chat || !context.json, ErrorCode::InvalidArgument,
          "--json gives one answer, so it needs a prompt");
  // Before the model is loaded, so that a missing prompt is told at once.
  const std::string prompt = chat ? std::string() : gather_prompt(options.prompt);

  LoadedModel loaded = load_model(options.model, context,
                                  options.settings.stats ? TellMemory::Parts
                                  : chat                 ? TellMemory::Total
                                                         : TellMemory::No);
  const SamplingDefaults defaults = default_sampling(*loaded.checkpoint);
  ChatSettings settings = options.settings.settings(defaults.params);
  settings.sampling.logprobs = options.logprobs;
  std::unique_ptr<ChatFormat> format;
  if (!options.raw) format = ChatFormat::load(*loaded.checkpoint, loaded.tokenizer);
  const std::unique_ptr<Engine> engine = loaded.make_engine(options.model);

  ChatSession session(*engine, format.get(), std::move(settings));
  if (!options.system.empty()) session.set_system(options.system);
  if (chat) {
    ReplOptions repl;
    // Of a path, the file's name is enough.
    const std::filesystem::path named(options.model.model);
    repl.model = std::filesystem::exists(named) ? named.filename().string() : named.string();
    repl.parameters = describe(*loaded.checkpoint).parameters;
    if (!options.no_history) repl.history_file = chat_history_file();
    repl.history_key = read_encryption_key(options.encryption_key);
    run_repl(session, *engine, format.get(), repl);
  } else {
    answer_once(session, *engine, to_string(loaded.precision), prompt, options, context);
  }
}

}  // namespace

void add_run_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("run", "Talk with a model, or get one answer to a prompt");
  auto options = std::make_shared<RunOptions>();
  options->model.add_to(*command);
  options->model.add_speculation_to(*command);
  command
      ->add_option("PROMPT", options->prompt,
                   "The question; a pipe's text is added to it. Without one, a conversation begins")
      ->type_name("");
  options->settings.add_to(*command);
  command->add_option("-s,--system", options->system, "Tell the model how to behave")
      ->type_name("TEXT")
      ->group("Answers");
  command
      ->add_option("--logprobs", options->logprobs,
                   "With --json: log-probabilities of every token and its N likeliest rivals")
      ->type_name("N")
      ->check(CLI::Range(0, 256))
      ->group("Answers");
  command->add_flag("--raw", options->raw, "Continue the text as it is, without a chat template")
      ->group("Answers");
  command->add_flag("--no-history", options->no_history, "Keep no history of what is typed");
  add_encryption_key_option(*command, options->encryption_key);
  add_json_option(*command, context);
  command->footer(
      "fathom run smollm2:135m                        chat\n"
      "fathom run smollm2:135m \"Why is the sky blue?\"  one answer\n"
      "cat notes.txt | fathom run MODEL \"Summarise:\"   a prompt with a file behind it");
  command->callback([options, &context] { run(*options, context); });
}

}  // namespace fathom
