// Statements; jinja_parse_expr.cpp has the expressions.
#include "tokenizer/jinja_parser.h"

#include <algorithm>
#include <array>

namespace fathom::jinja {

Template Parser::parse() {
  Template result;
  result.body = statements({}, "");
  check_unknown();
  result.names = std::move(names_);
  return result;
}

bool Parser::skip_name(std::string_view name) {
  if (!at_name(name)) return false;
  next();
  return true;
}

bool Parser::skip_op(std::string_view op) {
  if (!at_op(op)) return false;
  next();
  return true;
}

void Parser::expect_op(std::string_view op) {
  if (!skip_op(op)) error("expected '{}', got {}", op, describe(current()));
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) error("expected '{}', got {}", name, describe(current()));
}

std::string Parser::expect_identifier() {
  if (current().type != Token::Type::Name) error("expected a name, got {}", describe(current()));
  return next().text;
}

void Parser::expect_block_end() {
  if (current().type != Token::Type::BlockEnd) {
    error("expected the end of the statement, got {}", describe(current()));
  }
  next();
}

std::string Parser::describe(const Token& token) {
  switch (token.type) {
    case Token::Type::Data:
      return "template text";
    case Token::Type::VariableBegin:
      return "'{{'";
    case Token::Type::VariableEnd:
      return "'}}'";
    case Token::Type::BlockBegin:
      return "'{%'";
    case Token::Type::BlockEnd:
      return "'%}'";
    case Token::Type::String:
      return "a string";
    case Token::Type::End:
      return "the end of the template";
    default:
      return "'" + token.text + "'";
  }
}

NameId Parser::intern(const std::string& name) {
  const auto [entry, added] = ids_.try_emplace(name, static_cast<NameId>(names_.size()));
  if (added) names_.push_back(name);
  return entry->second;
}

StmtPtr Parser::make_stmt(Stmt::Kind kind, uint32_t line) const {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->line = line;
  return stmt;
}

/// Text, printed expressions and statements up to a tag named in `ends`, which stays unread.
Body Parser::statements(std::initializer_list<std::string_view> ends, std::string_view open_tag) {
  const Nesting nesting(*this);
  Body body;
  while (true) {
    const Token& token = current();
    switch (token.type) {
      case Token::Type::Data: {
        StmtPtr text = make_stmt(Stmt::Kind::Text, token.line);
        text->text = token.text;
        body.push_back(std::move(text));
        next();
        break;
      }
      case Token::Type::VariableBegin: {
        StmtPtr print = make_stmt(Stmt::Kind::Print, token.line);
        next();
        print->expr = tuple(true, "", false);
        if (current().type != Token::Type::VariableEnd) {
          error("expected the end of the printed expression, got {}", describe(current()));
        }
        next();
        body.push_back(std::move(print));
        break;
      }
      case Token::Type::BlockBegin:
        next();
        if (std::any_of(ends.begin(), ends.end(), [&](auto end) { return at_name(end); })) {
          return body;
        }
        if (at_name("print")) {
          parse_print(body);
        } else {
          body.push_back(statement());
        }
        expect_block_end();
        break;
      default:
        if (ends.size() > 0) error("the '{}' tag is never closed", open_tag);
        return body;
    }
  }
}

/// The body of a statement: past the tag's end, up to and including the name of its closing tag.
Body Parser::block(std::initializer_list<std::string_view> ends, std::string_view open_tag) {
  skip_op(":");
  expect_block_end();
  return statements(ends, open_tag);
}

StmtPtr Parser::statement() {
  if (current().type != Token::Type::Name)
    error("expected a tag's name, got {}", describe(current()));
  const std::string tag = current().text;
  if (tag == "if") return parse_if();
  if (tag == "for") return parse_for();
  if (tag == "set") return parse_set();
  if (tag == "macro") return parse_macro();
  if (tag == "call") return parse_call_block();
  if (tag == "filter") return parse_filter_block();
  if (tag == "with") return parse_with();
  if (tag == "generation") return parse_generation();
  if (tag == "break" || tag == "continue") return parse_loop_control();
  static constexpr std::array<std::string_view, 6> other_templates = {
      "extends", "include", "import", "from", "block", "autoescape"};
  if (std::find(other_templates.begin(), other_templates.end(), tag) != other_templates.end()) {
    fail(ErrorCode::Unsupported, "chat template, line {}: the tag '{}' is not supported",
         current().line, tag);
  }
  error("unknown tag '{}'", tag);
}

StmtPtr Parser::parse_if() {
  StmtPtr stmt = make_stmt(Stmt::Kind::If, next().line);
  ++branches_;
  while (true) {
    ExprPtr condition = tuple(false, "", false);
    Body body = block({"elif", "else", "endif"}, "if");
    stmt->branches.emplace_back(std::move(condition), std::move(body));
    const std::string end = next().text;
    if (end == "elif") continue;
    if (end == "else") {
      stmt->otherwise = block({"endif"}, "if");
      next();
    }
    break;
  }
  --branches_;
  return stmt;
}

StmtPtr Parser::parse_for() {
  StmtPtr stmt = make_stmt(Stmt::Kind::For, next().line);
  stmt->target = assign_target(false, "in");
  stmt->id = intern("loop");
  const auto is_loop = [&](const ExprPtr& item) { return item->id == stmt->id; };
  if ((stmt->target->kind == Expr::Kind::Name && is_loop(stmt->target)) ||
      std::any_of(stmt->target->items.begin(), stmt->target->items.end(), is_loop)) {
    error("can't assign to the special variable 'loop' in a for-loop");
  }
  expect_name("in");
  stmt->expr = tuple(false, "recursive", false);
  if (skip_name("if")) stmt->test = expression();
  stmt->recursive = skip_name("recursive");
  ++loops_;
  stmt->body = block({"endfor", "else"}, "for");
  --loops_;
  if (next().text == "else") {
    stmt->otherwise = block({"endfor"}, "for");
    next();
  }
  return stmt;
}

StmtPtr Parser::parse_set() {
  const uint32_t line = next().line;
  ExprPtr target = assign_target(true, "");
  if (skip_op("=")) {
    StmtPtr stmt = make_stmt(Stmt::Kind::Set, line);
    stmt->target = std::move(target);
    stmt->expr = tuple(true, "", false);
    return stmt;
  }
  StmtPtr stmt = make_stmt(Stmt::Kind::SetBlock, line);
  stmt->target = std::move(target);
  while (skip_op("|")) stmt->expr = filter(std::move(stmt->expr));
  stmt->body = block({"endset"}, "set");
  next();
  return stmt;
}

void Parser::parse_signature(Signature& signature) {
  expect_op("(");
  while (!at_op(")")) {
    if (!signature.parameters.empty()) expect_op(",");
    const NameId id = intern(expect_identifier());
    if (skip_op("=")) {
      signature.defaults.push_back(expression());
    } else if (!signature.defaults.empty()) {
      error("a parameter without a default follows one with a default");
    }
    signature.parameters.push_back(id);
  }
  expect_op(")");
}

/// The body of something called later: its loops and special names are its own.
Body Parser::macro_body(Signature& signature, std::string_view end, std::string_view open_tag) {
  const size_t outer_loops = std::exchange(loops_, 0);
  macros_.push_back(&signature);
  Body body = block({end}, open_tag);
  macros_.pop_back();
  loops_ = outer_loops;
  next();
  return body;
}

StmtPtr Parser::parse_macro() {
  StmtPtr stmt = make_stmt(Stmt::Kind::Macro, next().line);
  stmt->text = expect_identifier();
  stmt->id = intern(stmt->text);
  parse_signature(stmt->signature);
  stmt->body = macro_body(stmt->signature, "endmacro", "macro");
  return stmt;
}

StmtPtr Parser::parse_call_block() {
  StmtPtr stmt = make_stmt(Stmt::Kind::CallBlock, next().line);
  if (at_op("(")) parse_signature(stmt->signature);
  stmt->expr = expression();
  if (stmt->expr->kind != Expr::Kind::Call) error("a call block needs the call of a macro");
  stmt->body = macro_body(stmt->signature, "endcall", "call");
  return stmt;
}

StmtPtr Parser::parse_filter_block() {
  StmtPtr stmt = make_stmt(Stmt::Kind::FilterBlock, next().line);
  stmt->expr = filter(nullptr);
  while (skip_op("|")) stmt->expr = filter(std::move(stmt->expr));
  stmt->body = block({"endfilter"}, "filter");
  next();
  return stmt;
}

StmtPtr Parser::parse_with() {
  StmtPtr stmt = make_stmt(Stmt::Kind::With, next().line);
  while (current().type != Token::Type::BlockEnd) {
    if (!stmt->targets.empty()) expect_op(",");
    stmt->targets.push_back(assign_target(false, ""));
    expect_op("=");
    stmt->values.push_back(expression());
  }
  stmt->body = block({"endwith"}, "with");
  next();
  return stmt;
}

StmtPtr Parser::parse_generation() {
  StmtPtr stmt = make_stmt(Stmt::Kind::Generation, next().line);
  stmt->body = macro_body(stmt->signature, "endgeneration", "generation");
  return stmt;
}

StmtPtr Parser::parse_loop_control() {
  const Token& token = next();
  if (loops_ == 0) error("'{}' outside of a loop", token.text);
  return make_stmt(token.text == "break" ? Stmt::Kind::Break : Stmt::Kind::Continue, token.line);
}

void Parser::parse_print(Body& out) {
  const uint32_t line = next().line;
  bool first = true;
  while (current().type != Token::Type::BlockEnd) {
    if (!first) expect_op(",");
    first = false;
    StmtPtr stmt = make_stmt(Stmt::Kind::Print, line);
    stmt->expr = expression();
    out.push_back(std::move(stmt));
  }
}

/// A name, a row of names, or (with_namespace) the attribute of a namespace.
ExprPtr Parser::assign_target(bool with_namespace, std::string_view end_name) {
  const uint32_t line = current().line;
  ExprPtr first = assign_target_item(with_namespace);
  if (!at_op(",")) return first;
  ExprPtr tuple = make(Expr::Kind::Tuple, line);
  adopt(*tuple, std::move(first));
  while (skip_op(",")) {
    if (tuple_ends(end_name) || at_op("=")) break;
    adopt(*tuple, assign_target_item(with_namespace));
  }
  return tuple;
}

ExprPtr Parser::assign_target_item(bool with_namespace) {
  const Nesting nesting(*this);
  const uint32_t line = current().line;
  if (skip_op("(")) {
    ExprPtr inner = assign_target(with_namespace, "");
    expect_op(")");
    return inner;
  }
  const std::string name = expect_identifier();
  static constexpr std::array<std::string_view, 6> constants = {"true", "false", "none",
                                                                "True", "False", "None"};
  if (std::find(constants.begin(), constants.end(), name) != constants.end()) {
    error("can't assign to '{}'", name);
  }
  if (with_namespace && skip_op(".")) {
    ExprPtr target = make(Expr::Kind::NamespaceAttribute, line);
    target->id = intern(name);
    target->name = expect_identifier();
    return target;
  }
  ExprPtr target = make(Expr::Kind::Name, line);
  target->id = intern(name);
  return target;
}

}  // namespace fathom::jinja
