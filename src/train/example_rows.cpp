#include "train/example_rows.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/content_digest.h"
#include "base/error.h"
#include "base/json_guard.h"
#include "train/tasks.h"

namespace fathom::train {
namespace {

using Json = nlohmann::ordered_json;

class Reader {
 public:
  Reader(const std::filesystem::path& path, const Tokenizer& tokenizer, const ChatFormat* chat,
         const ExampleOptions& options, ExampleReport& report)
      : path_(path), tokenizer_(tokenizer), chat_(chat), options_(options), report_(report) {}

  Example read(const std::string& line, std::size_t number) {
    line_ = number;
    guard_json(line, {}, path_);
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) wrong("expected a JSON object");
    if (json.contains("messages")) return conversation(json.at("messages"));
    const std::string prompt = text(json, options_.prompt_field);
    const std::string answer = text(json, options_.answer_field);
    if (answer.empty()) wrong("the answer is empty");
    if (chat_ != nullptr) {
      return conversation(Json::array(
          {{{"role", "user"}, {"content", prompt}}, {{"role", "assistant"}, {"content", answer}}}));
    }
    Example example;
    append(example, tokenizer_.encode(prompt), false);
    append(example, tokenizer_.encode(answer, {.add_special = false, .parse_special = false}),
           true);
    append(example, {options_.end}, true);
    return example;
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const {
    fail(ErrorCode::Corrupt, "{}, line {}: {}", path_.string(), line_, what);
  }
  std::string text(const Json& json, const std::string& name) const {
    const auto found = json.find(name);
    if (found == json.end()) wrong("there is no field '" + name + "', nor 'messages'");
    if (!found->is_string()) wrong("the field '" + name + "' should be a text");
    return found->get<std::string>();
  }
  static void append(Example& example, const std::vector<TokenId>& tokens, bool asked) {
    for (const TokenId id : tokens) example.tokens.push_back(value(id));
    example.asked.resize(example.tokens.size(), asked ? 1 : 0);
  }

  /// What the template writes for the messages before a turn, and for those with it, tells where
  /// the turn's tokens are.
  Example conversation(const Json& messages) {
    if (chat_ == nullptr) wrong("'messages' want a model with a chat template");
    if (!messages.is_array() || messages.empty()) wrong("'messages' should be a list of turns");
    for (const Json& turn : messages) {
      const bool right = turn.is_object() && turn.contains("role") && turn["role"].is_string() &&
                         turn.contains("content") && turn["content"].is_string();
      if (!right) wrong("a turn should have a 'role' and a 'content', both texts");
    }
    const auto rendered = [&](const Json& turns, bool open) {
      ChatOptions chat;
      chat.add_generation_prompt = open;
      try {
        return chat_->prompt(turns, chat).tokens;
      } catch (const Error& error) {
        wrong(error.what());
      }
    };
    const std::vector<TokenId> whole = rendered(messages, false);
    Example example;
    append(example, whole, false);
    bool any = false;
    Json before = Json::array();
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const Json& turn = messages[i];
      if (turn["role"] == "assistant") {
        const std::vector<TokenId> asked = rendered(before, true);
        before.push_back(turn);
        const std::vector<TokenId> said = rendered(before, false);
        if (mark(example, whole, asked, said)) {
          any = true;
        } else if (i + 1 < messages.size()) {
          ++report_.answers_left_out;
        } else {
          wrong("the chat template does not write the last answer after what it asks it with");
        }
      } else {
        before.push_back(turn);
      }
    }
    if (!any) wrong("there is no answer to learn");
    return example;
  }

  /// Tokens of `said` after `asked`, up to the one that ends the turn, if `whole` has them there.
  bool mark(Example& example, const std::vector<TokenId>& whole, const std::vector<TokenId>& asked,
            const std::vector<TokenId>& said) const {
    const auto begins = [](const std::vector<TokenId>& all, const std::vector<TokenId>& part) {
      return part.size() <= all.size() && std::equal(part.begin(), part.end(), all.begin());
    };
    if (!begins(said, asked) || !begins(whole, said) || said.size() == asked.size()) return false;
    std::size_t end = said.size();
    for (std::size_t i = said.size(); i > asked.size(); --i) {
      if (!tokenizer_.is_end_of_generation(said[i - 1])) continue;
      end = i;
      break;
    }
    std::fill(example.asked.begin() + static_cast<std::ptrdiff_t>(asked.size()),
              example.asked.begin() + static_cast<std::ptrdiff_t>(end), std::uint8_t{1});
    return true;
  }

  const std::filesystem::path& path_;
  const Tokenizer& tokenizer_;
  const ChatFormat* chat_;
  const ExampleOptions& options_;
  ExampleReport& report_;
  std::size_t line_ = 0;
};

}  // namespace

std::vector<Example> read_examples(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                   const ChatFormat* chat, const ExampleOptions& options,
                                   ExampleReport& report) {
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), ErrorCode::NotFound, "{} cannot be opened", path.string());
  Reader reader(path, tokenizer, chat, options, report);
  std::vector<Example> examples;
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Example example = reader.read(line, number);
    ++report.read;
    if (options.most_tokens > 0 && example.tokens.size() > options.most_tokens) {
      ++report.too_long;
    } else {
      examples.push_back(std::move(example));
    }
  }
  require(report.read > 0, ErrorCode::InvalidArgument, "{} has no example", path.string());
  return examples;
}

ExampleRows::ExampleRows(std::vector<Example> examples, std::size_t row_tokens, std::size_t ahead,
                         std::uint64_t seed)
    : examples_(std::move(examples)), row_tokens_(row_tokens), ahead_(ahead), seed_(seed) {
  require(!examples_.empty(), ErrorCode::InvalidArgument, "there is no example to learn from");
  for (const Example& example : examples_) {
    require(example.tokens.size() <= row_tokens, ErrorCode::InvalidArgument,
            "an example has {} tokens, but rows only {}", example.tokens.size(), row_tokens);
  }
  for (std::uint64_t next = 0; next < examples_.size();) {
    row_from(next);
    tokens_ += static_cast<double>(row_tokens_);
  }
}

Row ExampleRows::row_from(std::uint64_t& next) const {
  const std::size_t length = row_tokens_ + ahead_;
  Row row;
  std::int64_t number = 0;
  while (true) {
    const Example& example = examples_[dealt_task(seed_, next, examples_.size())];
    if (row.tokens.size() + example.tokens.size() > row_tokens_) break;
    ++next;
    for (std::size_t i = 0; i < example.tokens.size(); ++i) {
      row.tokens.push_back(example.tokens[i]);
      row.positions.push_back(static_cast<std::int64_t>(i));
      row.documents.push_back(number);
      row.asked.push_back(example.asked[i]);
    }
    ++number;
  }
  // What fills the row up is a document of its own that nobody is asked for.
  for (std::int64_t position = 0; row.tokens.size() < length; ++position) {
    row.tokens.push_back(row.tokens.front());
    row.positions.push_back(position);
    row.documents.push_back(number);
    row.asked.push_back(0);
  }
  return row;
}

Row ExampleRows::next() { return row_from(next_); }

std::vector<Row> ExampleRows::first(std::size_t rows) {
  std::vector<Row> found;
  for (std::uint64_t next = 0; found.size() < rows && next < examples_.size();) {
    found.push_back(row_from(next));
  }
  return found;
}

nlohmann::ordered_json ExampleRows::identity() const {
  ContentDigest digest;
  for (const Example& example : examples_) {
    digest.add(std::as_bytes(std::span(example.tokens)));
    digest.add(std::as_bytes(std::span(example.asked)));
  }
  return {{"data", digest.hex()}, {"row_tokens", row_tokens_}, {"data_seed", seed_}};
}

}  // namespace fathom::train
