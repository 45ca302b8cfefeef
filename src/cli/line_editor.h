// Reading a person's lines: editing, history, multi-line input and pasted text (libedit).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/secret_key.h"

namespace fathom {

class LineEditor {
 public:
  enum class Outcome {
    Line,
    Interrupted,  // Ctrl-C: the line is dropped
    End           // Ctrl-D on an empty line, or the input has ended
  };

  /// Reads from stdin, draws on stdout. History is kept in `history_file` (made private to its
  /// owner), or nowhere if that is empty; with a key sealed under it. One that is sealed under
  /// another key, or sealed and there is none, is left as it is, and none is kept. Tab completes
  /// `words` at the start of a line.
  LineEditor(const std::filesystem::path& history_file, std::vector<std::string> words,
             const std::optional<SecretKey>& key = {});
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// `prompt` may hold escape sequences between \1 characters. Without line break in `line`, unless
  /// the text was pasted.
  Outcome read(const std::string& prompt, std::string& line);
  /// False also for one that is sealed under a key that is not this one.
  bool keeps_history() const;
  /// Adds an entry to the history, once if it repeats the last one.
  void remember(const std::string& entry);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom
