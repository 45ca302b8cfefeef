// `fathom forget`, with canaries that are looked for in the raw files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "cli/run_program.h"
#include "engine/context_store.h"
#include "server/books.h"

namespace fathom::test {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

/// As a server would have left them.
void leave_page(const fs::path& pages, std::uint64_t scope, int first,
                const std::optional<SecretKey>& key = {}) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < 64; ++i) tokens.push_back(TokenId{first + i});
  ContextStoreOptions options{pages};
  options.key = key;
  ContextStore store(options);
  store.save(PageNames("model", scope).of(tokens).back(), tokens, std::vector<std::byte>(100),
             true);
}

std::string canary(int first) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    const int id = first + i;
    bytes.append(reinterpret_cast<const char*>(&id), sizeof id);
  }
  return bytes;
}

/// Whether the bytes are in any file under the folder.
bool found_in(const fs::path& folder, const std::string& bytes) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(in)), {});
    if (all.find(bytes) != std::string::npos) return true;
  }
  return false;
}

class Forget : public ::testing::Test {
 protected:
  Output forget(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"FATHOM_HOME=" + home.string(),
                                         "XDG_STATE_HOME=" + home.string(), program(), "forget"});
    return run(arguments, {}, "env");
  }
  const TemporaryFolder folder;
  const fs::path home = folder / "home";
  const fs::path pages = home / "context-cache";
};

TEST_F(Forget, NothingThatWasSaidIsInAFileAfterwards) {
  leave_page(pages, 1, 70'000);
  fs::create_directories(home / "fathom");
  write_text((home / "fathom" / "history").string(), "tell me of the canary\n");
  ASSERT_TRUE(found_in(home, canary(70'000)));
  ASSERT_TRUE(found_in(home, "canary"));
  const Output output = forget();
  EXPECT_EQ(output.exit_code, 0) << output.err;
  EXPECT_THAT(output.err, HasSubstr("1 pages of the context cache and the chat history deleted"));
  EXPECT_FALSE(found_in(home, canary(70'000)));
  EXPECT_FALSE(found_in(home, "canary"));
  EXPECT_THAT(forget({"--json"}).out, HasSubstr("\"pages\":0"));
}

TEST_F(Forget, OneKeysPagesGoAndAnothersStay) {
  fs::create_directories(home / "books");
  const std::string secret(32, 's');
  write_text((folder / "secret").string(), secret);
  fs::permissions(folder / "secret", fs::perms::owner_read);
  std::string alice, bob;
  {
    server::Books books(home / "books" / "books.sqlite");
    alice = books.create_key("alice", {});
    bob = books.create_key("bob", {});
  }
  leave_page(pages, server::cache_scope_of(alice), 70'000);
  leave_page(pages, server::cache_scope_of(bob), 80'000);
  EXPECT_NE(forget({"--key", "carol"}).exit_code, 0);
  EXPECT_THAT(forget({"--key", "alice", "--json"}).out, HasSubstr("\"pages\":1"));
  EXPECT_FALSE(found_in(home, canary(70'000)));
  EXPECT_TRUE(found_in(home, canary(80'000)));

  const SecretKey key(secret);
  leave_page(pages, server::cache_scope_of(alice), 70'000, key);  // what was plain goes with it
  leave_page(pages, server::cache_scope_of(bob), 80'000, key);
  EXPECT_FALSE(found_in(home, canary(70'000)));
  EXPECT_THAT(
      forget({"--key", "alice", "--encryption-key", (folder / "secret").string(), "--json"}).out,
      HasSubstr("\"pages\":1"));
  EXPECT_EQ(forget_pages(pages), 1U);
}

}  // namespace
}  // namespace fathom::test
