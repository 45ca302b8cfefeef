#include "base/secret_key.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "base/error.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

const std::string kSecret(32, 's');

TEST(SecretKey, OpensWhatItSealedAndNothingElse) {
  const SecretKey key(kSecret);
  for (const std::size_t size : {0U, 1U, 63U, 64U, 1000U}) {
    const std::string text(size, 'x');
    const auto sealed = key.seal(bytes(text), bytes("where"));
    EXPECT_EQ(sealed.size(), size + SecretKey::overhead());
    const auto opened = key.open(sealed, bytes("where"));
    ASSERT_TRUE(opened);
    EXPECT_TRUE(std::ranges::equal(*opened, bytes(text)));
    EXPECT_FALSE(key.open(sealed, bytes("elsewhere")));
    EXPECT_FALSE(SecretKey(std::string(32, 't')).open(sealed, bytes("where")));
    EXPECT_FALSE(key.derive("other").open(sealed, bytes("where")));
    for (std::size_t i = 0; i < sealed.size(); ++i) {
      auto damaged = sealed;
      damaged[i] ^= std::byte{1};
      EXPECT_FALSE(key.open(damaged, bytes("where"))) << i;
    }
    EXPECT_FALSE(key.open(std::span(sealed).first(sealed.size() - 1), bytes("where")));
  }
  EXPECT_FALSE(key.open({}, {}));
}

TEST(SecretKey, SealsDifferentlyEachTimeAndTellsNothing) {
  const SecretKey key(kSecret);
  const std::string text = "a canary in the coal mine";
  const auto one = key.seal(bytes(text), {});
  EXPECT_NE(one, key.seal(bytes(text), {}));
  const std::string raw(reinterpret_cast<const char*>(one.data()), one.size());
  EXPECT_EQ(raw.find("canary"), std::string::npos);
}

TEST(SecretKey, NamesAreTheKeysOwn) {
  const SecretKey key(kSecret);
  EXPECT_EQ(key.name(bytes("a")), key.name(bytes("a")));
  EXPECT_NE(key.name(bytes("a")), key.name(bytes("b")));
  EXPECT_NE(key.name(bytes("a")), key.derive("x").name(bytes("a")));
}

TEST(SecretKey, AFileMustBeItsOwnersAndLongEnough) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "fathom-secret-key";
  const auto refused = [&](const std::string& text, mode_t mode, const char* word) {
    std::ofstream(file) << text;
    ::chmod(file.c_str(), mode);
    try {
      SecretKey::from_file(file);
      ADD_FAILURE() << word;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(word));
      EXPECT_THAT(error.what(), HasSubstr("fathom-secret-key"));
    }
  };
  std::filesystem::remove(file);
  EXPECT_THROW(SecretKey::from_file(file), Error);
  refused(kSecret, 0640, "mode 640");
  refused(std::string(31, 's') + "\n", 0600, "has 31");
  refused(std::string(5000, 's'), 0600, "4096");
  std::ofstream(file) << kSecret << "\n";
  EXPECT_TRUE(SecretKey::from_file(file).open(SecretKey(kSecret).seal(bytes("x"), {}), {}));
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace fathom
