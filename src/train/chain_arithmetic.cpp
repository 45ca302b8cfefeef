#include "train/chain_arithmetic.h"

#include <fmt/format.h>

#include "train/random.h"

namespace fathom::train {
namespace {

enum Purpose : std::uint64_t { kProblem = 21, kText = 22 };

int apply(int value, const ChainProblem::Operation& operation) {
  switch (operation.sign) {
    case '+':
      return (value + operation.number) % 10;
    case '-':
      return (value - operation.number + 10) % 10;
    default:
      return value * operation.number % 10;
  }
}

}  // namespace

std::string ChainProblem::question() const {
  std::string text = std::to_string(first);
  for (const Operation& o : operations) text += fmt::format("{}{}", o.sign, o.number);
  return text + "=";
}

std::string ChainProblem::thought() const {
  std::string text;
  int value = first;
  for (const Operation& o : operations) {
    const int result = apply(value, o);
    text += fmt::format("{}{}{}={};", value, o.sign, o.number, result);
    value = result;
  }
  return text;
}

int ChainProblem::answer() const {
  int value = first;
  for (const Operation& o : operations) value = apply(value, o);
  return value;
}

ChainProblem chain_problem(std::uint64_t seed, std::uint64_t index, std::size_t operations) {
  Draws draws(seed, {kProblem, index});
  ChainProblem problem;
  problem.first = static_cast<int>(draws.below(10));
  for (std::size_t i = 0; i < operations; ++i) {
    const char sign = "+-*"[draws.below(3)];
    const int number =
        sign == '*' ? "379"[draws.below(3)] - '0' : 1 + static_cast<int>(draws.below(9));
    problem.operations.push_back({sign, number});
  }
  return problem;
}

std::string chain_text(const ChainTextOptions& options, std::uint64_t index) {
  Draws draws(options.seed, {kText, index});
  const std::size_t operations = options.fewest + draws.below(options.most - options.fewest + 1);
  const bool thinks = draws.uniform() < options.thinking;
  const ChainProblem problem = chain_problem(options.seed, index, operations);
  if (!thinks) return fmt::format("{}{}", problem.question(), problem.answer());
  return fmt::format("{}<think>{}</think>{}", problem.question(), problem.thought(),
                     problem.answer());
}

}  // namespace fathom::train
