// A store in a folder of its own, and what tests look at in it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "store/http_server.h"
#include "store/store.h"

namespace fathom::test {

class StoreTest : public ::testing::Test {
 protected:
  StoreTest();
  ~StoreTest() override;

  Store store() { return Store(options()); }
  StoreOptions options();
  /// Options for a FakeHub or an index on loopback: quick retries, no proxies.
  static NetworkOptions network(const std::string& endpoint = {});

  std::filesystem::path write(const std::string& name, const std::string& content) const;
  static std::string read(const std::filesystem::path& path);
  /// Files below the store's root, relative, but for locks.
  std::vector<std::string> store_files() const;
  /// True when neither models nor parts of models are in the store.
  bool store_is_empty() const { return store_files().empty(); }
  bool told(const std::string& part) const;

  std::filesystem::path folder;  // the test's own
  std::vector<std::string> notices;
};

/// Runs `body`, which must throw Error, and returns the message with its code before it.
template <typename F>
std::string error_of(F&& body) {
  try {
    body();
  } catch (const Error& error) {
    return std::string(to_string(error.code())) + ": " + error.what();
  }
  return "no error";
}

}  // namespace fathom::test
