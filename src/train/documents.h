// Documents out of files: JSON lines, or plain text.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "base/function_ref.h"
#include "base/progress.h"

namespace fathom::train {

struct Document {
  std::string text;  // valid UTF-8, not empty
  std::size_t line;  // of its file, from 1: for messages
};

struct DocumentOptions {
  std::string field = "text";          // of each JSON line
  std::size_t most_bytes = 64u << 20;  // of a line
};

/// Gives each document of a file in turn: of "*.jsonl" the field of each line (blank lines are
/// passed over), of anything else the whole file as one. Memory: a line at a time.
///
/// Throws Error(NotFound | Io), Error(Corrupt) for a line that is no JSON object with such a text
/// or for text that is no UTF-8, Error(ResourceLimit) for a line that is too long,
/// Error(InvalidArgument) for a file without a document: each names the file and the line.
void read_documents(const std::filesystem::path& path, const DocumentOptions& options,
                    FunctionRef<void(Document)> take);

}  // namespace fathom::train
