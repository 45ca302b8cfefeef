// Where keys and usage are kept.
#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <string>

namespace fathom {

/// Adds --books.
CLI::Option* add_books_option(CLI::App& command, std::string& file);

/// `chosen` when not empty, else books/books.sqlite in the store.
std::filesystem::path books_path(const std::string& chosen);

}  // namespace fathom
