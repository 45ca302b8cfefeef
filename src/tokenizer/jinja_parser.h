// Makes the syntax tree of a template from its tokens, by recursive descent after jinja2's grammar.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_lexer.h"

namespace fathom::jinja {

class Parser {
 public:
  /// Trees deeper than `max_depth` are refused.
  Parser(std::string_view source, size_t max_depth)
      : tokens_(tokenize(source)), max_depth_(max_depth) {}

  /// The whole template. Throws Error(InvalidArgument) naming the line of a syntax error,
  /// Error(Unsupported) for tags that need other templates, Error(ResourceLimit) for too deep a
  /// tree.
  Template parse();

 private:
  class Nesting;

  // Statements: jinja_parser.cpp.
  Body statements(std::initializer_list<std::string_view> ends, std::string_view open_tag);
  Body block(std::initializer_list<std::string_view> ends, std::string_view open_tag);
  StmtPtr statement();
  StmtPtr parse_if();
  StmtPtr parse_for();
  StmtPtr parse_set();
  StmtPtr parse_macro();
  StmtPtr parse_call_block();
  StmtPtr parse_filter_block();
  StmtPtr parse_with();
  StmtPtr parse_generation();
  StmtPtr parse_loop_control();
  void parse_print(Body& out);
  void parse_signature(Signature& signature);
  Body macro_body(Signature& signature, std::string_view end, std::string_view open_tag);
  ExprPtr assign_target(bool with_namespace, std::string_view end_name);
  ExprPtr assign_target_item(bool with_namespace);

  // Expressions: jinja_parse_expr.cpp.
  ExprPtr tuple(bool with_conditional, std::string_view end_name, bool parentheses);
  ExprPtr expression(bool with_conditional = true);
  ExprPtr conditional();
  ExprPtr logical_or();
  ExprPtr logical_and();
  ExprPtr logical_not();
  ExprPtr comparison();
  ExprPtr binary(char op, ExprPtr left, ExprPtr right, uint32_t line);
  ExprPtr sum();
  ExprPtr concat();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filter = true);
  ExprPtr primary();
  ExprPtr list_literal();
  ExprPtr dict_literal();
  ExprPtr postfix(ExprPtr value);
  ExprPtr filters_and_tests(ExprPtr value);
  ExprPtr filter(ExprPtr value);
  ExprPtr test(ExprPtr value);
  ExprPtr subscript(ExprPtr value);
  ExprPtr call(ExprPtr callee);
  void call_arguments(Expr& call);
  void note_unknown(const char* what, const Expr& expr);
  void check_unknown() const;
  bool tuple_ends(std::string_view end_name) const;

  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  static bool is_name(const Token& token, std::string_view name) {
    return token.type == Token::Type::Name && token.text == name;
  }
  static bool is_op(const Token& token, std::string_view op) {
    return token.type == Token::Type::Operator && token.text == op;
  }
  bool at_name(std::string_view name) const { return is_name(current(), name); }
  bool at_op(std::string_view op) const { return is_op(current(), op); }
  bool skip_name(std::string_view name);
  bool skip_op(std::string_view op);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  std::string expect_identifier();
  void expect_block_end();
  static std::string describe(const Token& token);

  template <typename... A>
  [[noreturn]] void error(fmt::format_string<A...> format, A&&... args) const {
    fail(ErrorCode::InvalidArgument, "chat template, line {}: {}", current().line,
         fmt::format(format, std::forward<A>(args)...));
  }

  NameId intern(const std::string& name);
  ExprPtr make(Expr::Kind kind, uint32_t line) const;
  /// Adds a child and keeps the parent's depth; refuses a tree that grows too deep.
  void adopt(Expr& parent, ExprPtr child);
  void note_depth(Expr& parent, const Expr* child) const;
  StmtPtr make_stmt(Stmt::Kind kind, uint32_t line) const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  size_t max_depth_;
  size_t nesting_ = 0;
  size_t loops_ = 0;     // enclosing for loops of this macro or template
  size_t branches_ = 0;  // enclosing if's: there an unknown filter is an error only when reached
  /// Filters and tests that do not exist, outside of any if: an error as soon as the statement
  /// ends.
  struct Unknown {
    std::string what;
    std::string name;
    uint32_t line;
  };
  std::vector<Unknown> unknown_;
  std::vector<Signature*> macros_;
  std::unordered_map<std::string, NameId> ids_;
  std::vector<std::string> names_;
};

/// One level of the parser's own recursion.
class Parser::Nesting {
 public:
  explicit Nesting(Parser& parser) : parser_(parser) {
    if (++parser_.nesting_ > parser_.max_depth_) {
      --parser_.nesting_;
      fail(ErrorCode::ResourceLimit, "chat template, line {}: nested more than {} levels deep",
           parser_.current().line, parser_.max_depth_);
    }
  }
  ~Nesting() { --parser_.nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  Parser& parser_;
};

}  // namespace fathom::jinja
