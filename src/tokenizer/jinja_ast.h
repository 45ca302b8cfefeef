// The syntax tree of a template. Built by the parser, then only read; one tree serves all threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace fathom::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;
/// A variable's name, as an index of Template::names; scopes compare these, not strings.
using NameId = uint32_t;

struct Expr {
  enum class Kind : uint8_t {
    Constant,            // constant
    Name,                // id
    List,                // items
    Tuple,               // items
    Dict,                // items: key, value, key, value, ...
    Attribute,           // items[0].name
    Item,                // items[0][items[1]]
    Slice,               // items[0][items[1]:items[2]:items[3]], absent parts null
    Call,                // items[0](items[1..], keywords, star, star_star)
    Filter,              // items[0]|name(items[1..], ...); items[0] is null in a filter block
    Test,                // items[0] is name(items[1..], ...)
    Not,                 // items[0]
    And,                 // items[0], items[1]
    Or,                  // items[0], items[1]
    Compare,             // items[0] ops[0] items[1] ops[1] items[2] ...
    Binary,              // items[0] op items[1]
    Negate,              // items[0]
    Positive,            // items[0]
    Concat,              // items joined as text
    Conditional,         // items[1] if items[0] else items[2], which may be null
    NamespaceAttribute,  // target only: id.name
  };
  enum class Comparison : uint8_t {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn
  };

  Kind kind;
  uint32_t line;
  uint32_t depth = 1;  // of the tree below
  char op = 0;         // Binary: + - * / % f (floor division) p (power)
  NameId id = 0;
  std::string name;
  Value constant;
  std::vector<ExprPtr> items;
  std::vector<Comparison> ops;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  ExprPtr star;       // *args
  ExprPtr star_star;  // **kwargs
};

/// The parameters of a macro or a call block; the last `defaults.size()` have defaults.
struct Signature {
  std::vector<NameId> parameters;
  std::vector<ExprPtr> defaults;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

struct Stmt {
  enum class Kind : uint8_t {
    Text,         // text
    Print,        // expr
    If,           // branches; otherwise
    For,          // for target in expr if test: body; otherwise
    Set,          // target = expr
    SetBlock,     // target = (body, through the filter expr if any)
    Macro,        // id, signature, body
    CallBlock,    // expr (a Call), signature, body
    FilterBlock,  // expr (a Filter without a value), body
    With,         // targets, values, body
    Generation,   // body: what the assistant says
    Break,
    Continue,
  };
  Kind kind;
  uint32_t line;
  bool recursive = false;
  NameId id = 0;
  std::string text;
  ExprPtr target;
  ExprPtr expr;
  ExprPtr test;
  Body body;
  Body otherwise;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<ExprPtr> targets;
  std::vector<ExprPtr> values;
  Signature signature;
};

struct Template {
  std::vector<std::string> names;
  Body body;
};

}  // namespace fathom::jinja
