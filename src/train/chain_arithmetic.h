// The default experiment's language: chains of arithmetic modulo 10, worked out from left to right.
//
//   7*3+4-9=        the question
//   6               the answer at once, or after thinking:
//   <think>7*3=1;1+4=5;5-9=6;</think>6
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fathom::train {

struct ChainProblem {
  struct Operation {
    char sign;   // + - *
    int number;  // 1 to 9; of products 3, 7 or 9, so that no digit is lost
  };
  int first = 0;  // a digit
  std::vector<Operation> operations;

  std::string question() const;
  std::string thought() const;  // each operation's result, without the markers
  int answer() const;           // a digit
};

/// Problem number `index` of the stream of this seed.
ChainProblem chain_problem(std::uint64_t seed, std::uint64_t index, std::size_t operations);

struct ChainTextOptions {
  std::size_t fewest = 2, most = 8;  // operations, each number as likely
  double thinking = 0.2;             // share of texts that think
  std::uint64_t seed = 1;
};
/// A line of the text to learn from: question, and answer with or without a thought.
std::string chain_text(const ChainTextOptions& options, std::uint64_t index);

}  // namespace fathom::train
