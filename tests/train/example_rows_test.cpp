// Questions with their answers: which tokens are learned, how rows are filled, what is refused.
#include <gmock/gmock.h>

#include <set>

#include "base/error.h"
#include "formats/test_files.h"
#include "tokenizer/tokenizer_json_writer.h"
#include "train/bpe_trainer.h"
#include "train/example_rows.h"

namespace fathom::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kTemplate =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}";

class Examples : public ::testing::Test {
 protected:
  Examples() : tokenizer_(make_tokenizer()), chat_(kTemplate, tokenizer_) {}
  static Tokenizer make_tokenizer() {
    BpeTrainerOptions options;
    options.vocab_size = 300;
    options.pre_tokenizer = PreTokenizer::Gpt2;
    options.special_tokens = {"<|end|>", "<|user|>", "<|assistant|>", "<|system|>"};
    return Tokenizer::from_json(write_tokenizer_json(BpeTrainer(options).train()),
                                R"({"eos_token": "<|end|>"})");
  }
  std::vector<Example> read(const std::string& text, const ChatFormat* chat) {
    report_ = {};
    return read_examples(folder_.write("data.jsonl", text), tokenizer_, chat, options_, report_);
  }
  /// The tokens that are learned, each run in brackets.
  std::string shown(const Example& example) const {
    std::string text;
    bool in = false;
    for (std::size_t i = 0; i < example.tokens.size(); ++i) {
      if ((example.asked[i] != 0) != in) text += in ? ']' : '[';
      in = example.asked[i] != 0;
      text += tokenizer_.piece(TokenId{static_cast<std::int32_t>(example.tokens[i])});
    }
    return text + (in ? "]" : "");
  }
  std::string told(const std::string& text, const ChatFormat* chat = nullptr) {
    try {
      read(text, chat);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  testing::ScratchFolder folder_;
  Tokenizer tokenizer_;
  ChatFormat chat_;
  ExampleOptions options_{"prompt", "answer", TokenId{0}, 0};
  ExampleReport report_;
};

TEST_F(Examples, OfAPromptAndItsAnswerTheAnswerAndItsEndAreLearned) {
  const auto examples = read("{\"prompt\": \"2+2=\", \"answer\": \"4\"}\n", nullptr);
  ASSERT_EQ(examples.size(), 1U);
  EXPECT_EQ(shown(examples[0]), "2+2=[4<|end|>]");
}

TEST_F(Examples, OfAConversationEveryAnswerIsLearned) {
  const auto examples = read(
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})"
      "\n{\"prompt\": \"e\", \"answer\": \"f\"}\n",
      &chat_);
  ASSERT_EQ(examples.size(), 2U);
  EXPECT_EQ(shown(examples[0]),
            "<|system|>s<|user|>a<|assistant|>[b<|end|>]<|user|>c<|assistant|>[d<|end|>]");
  EXPECT_EQ(shown(examples[1]), "<|user|>e<|assistant|>[f<|end|>]");
}

TEST_F(Examples, WhatTheTemplateRewritesLaterIsLearnedWhereItStandsLast) {
  // Thoughts are dropped from answers that are in the past, as R1's template does.
  const ChatFormat forgets(
      "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' and not loop.last %}"
      "{{ m.content.split('!')[-1] }}{% else %}{{ m.content }}{% endif %}"
      "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}<|assistant|>{% endif %}",
      tokenizer_);
  const auto examples = read(
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "hm!b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "hm!d"}]})",
      &forgets);
  EXPECT_EQ(shown(examples[0]),
            "<|user|>a<|assistant|>b<|end|><|user|>c<|assistant|>[hm!d<|end|>]");
  EXPECT_EQ(report_.answers_left_out, 1U);
}

TEST_F(Examples, LongOnesAreLeftOutAndCounted) {
  options_.most_tokens = 6;
  const auto examples =
      read("{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"aaaaaa\", \"answer\": \"b\"}\n",
           nullptr);
  EXPECT_EQ(examples.size(), 1U);
  EXPECT_EQ(report_.too_long, 1U);
}

TEST_F(Examples, WhatIsWrongIsNamedWithItsLine) {
  const std::string good = "{\"prompt\": \"a\", \"answer\": \"b\"}\n";
  EXPECT_THAT(told(good + "{\"prompt\": \"a\"}\n"),
              HasSubstr("line 2: there is no field 'answer'"));
  EXPECT_THAT(told("{\"prompt\": 3, \"answer\": \"b\"}\n"), HasSubstr("'prompt' should be a text"));
  EXPECT_THAT(told("{\"prompt\": \"a\", \"answer\": \"\"}\n"), HasSubstr("the answer is empty"));
  EXPECT_THAT(told("[]\n"), HasSubstr("line 1: expected a JSON object"));
  EXPECT_THAT(told("{\"messages\": []}\n"), HasSubstr("want a model with a chat template"));
  EXPECT_THAT(told("{\"messages\": []}\n", &chat_), HasSubstr("should be a list of turns"));
  EXPECT_THAT(told("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n", &chat_),
              HasSubstr("there is no answer to learn"));
  EXPECT_THAT(told("{\"messages\": [{\"content\": \"a\"}]}\n", &chat_), HasSubstr("line 1"));
  EXPECT_THAT(told("\n"), HasSubstr("has no example"));
}

Example example_of(std::int64_t first, std::size_t prompt, std::size_t answer) {
  Example example;
  for (std::size_t i = 0; i < prompt + answer; ++i) {
    example.tokens.push_back(first);
    example.asked.push_back(i >= prompt);
  }
  return example;
}

TEST(ExampleRows, HoldWholeExamplesAndFillTheRest) {
  ExampleRows rows({example_of(10, 2, 3)}, 12, 1, 1);
  const Row row = rows.next();
  EXPECT_THAT(row.tokens, ElementsAre(10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10));
  EXPECT_THAT(row.documents, ElementsAre(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2));
  EXPECT_THAT(row.positions, ElementsAre(0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2));
  EXPECT_THAT(row.asked, ElementsAre(0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0));
}

TEST(ExampleRows, EachIsDealtOnceAnEpochAndARunGoesOn) {
  std::vector<Example> examples;
  for (std::int64_t i = 0; i < 20; ++i) {
    examples.push_back(example_of(100 + i, 1, 1 + static_cast<std::size_t>(i) % 5));
  }
  ExampleRows rows(examples, 10, 2, 3);
  std::multiset<std::int64_t> seen;
  while (rows.place().at("example") < 20) {
    const auto place = rows.place();
    const Row row = rows.next();
    ExampleRows again(examples, 10, 2, 3);
    again.seek(place);
    EXPECT_EQ(again.next().tokens, row.tokens);
    std::set<std::int64_t> in_row;
    for (std::size_t i = 0; i < 10; ++i) {
      if (row.asked[i] != 0) in_row.insert(row.tokens[i]);
    }
    seen.insert(in_row.begin(), in_row.end());
  }
  for (std::int64_t i = 0; i < 20; ++i) EXPECT_GE(seen.count(100 + i), 1U) << i;
  EXPECT_NE(rows.identity(), ExampleRows({example_of(1, 1, 1)}, 10, 2, 3).identity());
}

TEST(ExampleRows, WhatCannotBePackedIsRefused) {
  EXPECT_THROW(ExampleRows({}, 10, 1, 1), Error);
  EXPECT_THROW(ExampleRows({example_of(1, 8, 8)}, 10, 1, 1), Error);
}

}  // namespace
}  // namespace fathom::train
