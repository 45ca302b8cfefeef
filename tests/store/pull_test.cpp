// Pulling from a Hub: the protocol, resuming, and everything that can go wrong on the way.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/error.h"
#include "store/store_fixture.h"

namespace fathom::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class PullTest : public StoreTest {
 protected:
  PullTest() { hub.files["tiny-Q4_K_M.gguf"] = {model, true}; }
  StoredModel pull(const std::string& spec = "hf:acme/tiny", const std::string& name = {}) {
    return store().pull(spec, network(hub.endpoint()), name);
  }
  std::string pull_error(const std::string& spec = "hf:acme/tiny") {
    return error_of([&] { pull(spec); });
  }

  const std::string model = fake_model(400'000);
  FakeHub hub;
};

TEST_F(PullTest, FetchesTheOneGgufOfARepository) {
  const StoredModel pulled = pull();
  EXPECT_EQ(pulled.name, "acme/tiny");
  EXPECT_EQ(pulled.licence, "mit");
  EXPECT_THAT(pulled.origin, HasSubstr(hub.commit));
  EXPECT_EQ(read(store().find("acme/tiny")), model);
  EXPECT_EQ(read(store().find("hf:acme/tiny")), model) << "the spec finds it too";
  EXPECT_FALSE(fs::exists(folder / "store/partial") && !fs::is_empty(folder / "store/partial"));
}

TEST_F(PullTest, TheTokenGoesToTheHubAndNeverToItsCdn) {
  hub.required_token = "hf_secret";
  NetworkOptions options = network(hub.endpoint());
  options.hub.token = "hf_secret";
  store().pull("hf:acme/tiny", options);
  ASSERT_GT(hub.cdn().count("GET", "/bytes/"), 0U);
  for (const ServedRequest& request : hub.cdn().log()) {
    EXPECT_EQ(request.header("authorization"), "");
  }
  for (const ServedRequest& request : hub.hub().log()) {
    EXPECT_EQ(request.header("authorization"), "Bearer hf_secret");
  }
}

TEST_F(PullTest, AsksTheCdnOnlyForTheBytes) {
  pull();
  EXPECT_EQ(hub.cdn().count("HEAD", ""), 0U) << "a redirect's own headers describe the file";
  EXPECT_EQ(hub.hub().count("HEAD", "/resolve/" + hub.commit), 1U);
}

TEST_F(PullTest, ResumesWhereTheConnectionWasCut) {
  std::atomic<int> gets{0};
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    ServedResponse response = serve_bytes(request, model, "\"one\"");
    if (gets++ == 0) response.cut_after = 150'000;
    return response;
  };
  pull();
  EXPECT_EQ(read(store().find("acme/tiny")), model);
  const auto log = hub.cdn().log();
  ASSERT_EQ(log.size(), 2U);
  EXPECT_EQ(log[1].header("range"), "bytes=150000-");
  EXPECT_EQ(log[1].header("if-range"), "\"one\"");
}

TEST_F(PullTest, ResumesInALaterRun) {
  std::atomic<bool> broken{true};
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    ServedResponse response = serve_bytes(request, model, "\"one\"");
    // 100,000 bytes, then nothing more for as long as the server is broken.
    if (broken) response.cut_after = request.header("range").empty() ? 100'000 : 0;
    return response;
  };
  EXPECT_THAT(pull_error(), AllOf(StartsWith("network: "), HasSubstr("resumes it")));
  EXPECT_TRUE(store().list().empty());
  broken = false;
  const std::size_t before = hub.cdn().log().size();
  pull();
  EXPECT_EQ(hub.cdn().log().at(before).header("range"), "bytes=100000-");
  EXPECT_EQ(read(store().find("acme/tiny")), model);
}

TEST_F(PullTest, StartsAgainWhenTheBytesOnTheServerChangedMeanwhile) {
  const std::string newer = fake_model(model.size(), 2);
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    ServedResponse response = serve_bytes(request, model, "\"old\"");
    response.cut_after = request.header("range").empty() ? 100'000 : 0;
    return response;
  };
  pull_error();
  hub.on_cdn = nullptr;
  hub.files["tiny-Q4_K_M.gguf"].content = newer;
  pull();
  EXPECT_EQ(read(store().find("acme/tiny")), newer);
}

TEST_F(PullTest, ChangedEtagWithTheSameNameIsFetchedWhole) {
  std::atomic<int> gets{0};
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    const int get = gets++;
    ServedResponse response = serve_bytes(request, model, get == 0 ? "\"a\"" : "\"b\"");
    if (get == 0) response.cut_after = 150'000;
    return response;
  };
  pull();
  EXPECT_TRUE(told("starting again"));
  EXPECT_EQ(read(store().find("acme/tiny")), model);
}

TEST_F(PullTest, ManagesWithAServerThatKnowsNoRanges) {
  std::atomic<int> gets{0};
  hub.on_cdn = [&](const ServedRequest&) -> std::optional<ServedResponse> {
    ServedResponse response;
    response.body = model;
    if (gets++ == 0) response.cut_after = 150'000;
    return response;
  };
  pull();
  EXPECT_EQ(read(store().find("acme/tiny")), model);
}

TEST_F(PullTest, RefusesARangeThatWasNotAskedFor) {
  std::atomic<int> gets{0};
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    ServedResponse response = serve_bytes(request, model, "\"one\"");
    if (gets++ == 0) {
      response.cut_after = 150'000;
    } else {
      for (auto& [name, value] : response.headers) {
        if (name == "Content-Range") value = "bytes 149999-399999/400000";
      }
    }
    return response;
  };
  EXPECT_THAT(pull_error(), HasSubstr("asked for bytes from 150000"));
  EXPECT_TRUE(store().list().empty());
}

TEST_F(PullTest, WrongBytesAreRefusedAndDeleted) {
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    return serve_bytes(request, fake_model(model.size(), 9), "\"one\"");
  };
  EXPECT_THAT(pull_error(), AllOf(StartsWith("corrupt: "), HasSubstr(sha256_of(model)),
                                  HasSubstr(sha256_of(fake_model(model.size(), 9)))));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, ADamagedPartIsFetchedAnewOnce) {
  std::atomic<int> gets{0};
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    ServedResponse response =
        serve_bytes(request, gets == 0 ? fake_model(model.size(), 9) : model, "\"one\"");
    if (gets++ == 0) response.cut_after = 150'000;
    return response;
  };
  pull();
  EXPECT_TRUE(told("downloading it anew"));
  EXPECT_EQ(read(store().find("acme/tiny")), model);
}

TEST_F(PullTest, ATruncatedFileIsCalledThat) {
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    return serve_bytes(request, model.substr(0, 1000), "\"one\"");
  };
  EXPECT_THAT(pull_error(), AllOf(StartsWith("corrupt: "), HasSubstr("expected 400000 bytes"),
                                  HasSubstr("1000")));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, ABodyWithoutLengthThatNeverStopsIsCutOff) {
  hub.on_cdn = [&](const ServedRequest&) -> std::optional<ServedResponse> {
    ServedResponse response;
    response.body = model + model;
    response.send_length = false;
    return response;
  };
  EXPECT_THAT(pull_error(), HasSubstr("more than the expected 400000 bytes"));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, TriesAgainAfter429And500And503) {
  std::atomic<int> gets{0};
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    switch (gets++) {
      case 0:
        return ServedResponse{.status = 429, .headers = {{"Retry-After", "0"}}};
      case 1:
        return ServedResponse{.status = 503};
      default:
        return serve_bytes(request, model, "\"one\"");
    }
  };
  std::atomic<int> asked{0};
  hub.on_hub = [&](const ServedRequest&) -> std::optional<ServedResponse> {
    if (asked++ == 0) return ServedResponse{.status = 500, .body = "oops"};
    return std::nullopt;
  };
  pull();
  EXPECT_TRUE(told("429"));
  EXPECT_EQ(read(store().find("acme/tiny")), model);
}

TEST_F(PullTest, GivesUpOnAServerThatStaysDown) {
  hub.on_cdn = [](const ServedRequest&) { return ServedResponse{.status = 502}; };
  EXPECT_THAT(pull_error(),
              AllOf(StartsWith("network: "), HasSubstr("502"), HasSubstr("gave up after 3 tries")));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, AnUnknownRepositoryRevisionOrFileIsNamed) {
  EXPECT_THAT(pull_error("hf:acme/other"), AllOf(StartsWith("not_found: "), HasSubstr("HF_TOKEN")));
  EXPECT_THAT(pull_error("hf:acme/tiny@v9"), HasSubstr("no branch, tag or commit 'v9'"));
  EXPECT_THAT(pull_error("hf:acme/tiny:other.gguf"), HasSubstr("hf:acme/tiny:tiny-Q4_K_M.gguf"));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, AGatedRepositorySaysWhatToDo) {
  hub.required_token = "hf_secret";
  EXPECT_THAT(pull_error(), AllOf(StartsWith("network: "), HasSubstr("gated"),
                                  HasSubstr("accept its conditions"), HasSubstr("HF_TOKEN")));
}

TEST_F(PullTest, PrefersQ4KMAndSaysSo) {
  hub.files["tiny-Q8_0.gguf"] = {fake_model(1000, 3), true};
  hub.files["tiny-IQ4_K_M.gguf"] = {fake_model(1000, 4), true};
  EXPECT_EQ(pull().entry, "tiny-Q4_K_M.gguf");
  EXPECT_TRUE(told("taking tiny-Q4_K_M.gguf"));
}

TEST_F(PullTest, ListsTheChoicesWhenNoneIsPreferred) {
  hub.files.clear();
  hub.files["a-Q8_0.gguf"] = {fake_model(1000, 3), true};
  hub.files["a-Q2_K.gguf"] = {fake_model(2048, 4), true};
  EXPECT_THAT(pull_error(), AllOf(StartsWith("invalid_argument: "),
                                  HasSubstr("hf:acme/tiny:a-Q8_0.gguf"), HasSubstr("2.00 KiB")));
  EXPECT_EQ(pull("hf:acme/tiny:q8_0").entry, "a-Q8_0.gguf");
}

TEST_F(PullTest, FetchesAllPartsOfASplitModel) {
  hub.files.clear();
  hub.files["Q4_K_M/m-00001-of-00002.gguf"] = {fake_model(1000, 1), true};
  hub.files["Q4_K_M/m-00002-of-00002.gguf"] = {fake_model(1000, 2), true};
  EXPECT_EQ(pull().entry, "m-00001-of-00002.gguf");
  EXPECT_EQ(read(store().find("acme/tiny").parent_path() / "m-00002-of-00002.gguf"),
            fake_model(1000, 2));
  hub.files.erase("Q4_K_M/m-00002-of-00002.gguf");
  EXPECT_THAT(pull_error(), HasSubstr("1 of the 2 parts"));
}

TEST_F(PullTest, FetchesAFolderOfSafetensors) {
  hub.files.clear();
  hub.files["config.json"] = {"{}", false};  // the fake states the git id of "{}"
  hub.files["model.safetensors"] = {fake_model(1000), true};
  hub.files["pytorch_model.bin"] = {fake_model(1000, 2), true};
  const StoredModel pulled = pull();
  EXPECT_EQ(pulled.files.size(), 2U);
  EXPECT_TRUE(fs::is_directory(store().find("acme/tiny")));
}

/// A repository of two shards, and what its index says of them.
void serve_shards(FakeHub& hub, const std::string& index) {
  hub.files.clear();
  hub.files["config.json"] = {"{}", false};
  hub.files["model-00001-of-00002.safetensors"] = {fake_model(1000, 1), true};
  hub.files["model-00002-of-00002.safetensors"] = {fake_model(1000, 2), true};
  hub.files["model.safetensors.index.json"] = {index, true};
}

constexpr const char* kTwoShards =
    R"({"weight_map": {"a": "model-00001-of-00002.safetensors",
                       "b": "model-00002-of-00002.safetensors"}})";

TEST_F(PullTest, FetchesTheShardsThatTheIndexNames) {
  serve_shards(hub, kTwoShards);
  hub.files["model-old.safetensors"] = {fake_model(1000, 3), true};
  const StoredModel pulled = pull();
  EXPECT_EQ(pulled.files.size(), 4U);
  EXPECT_EQ(hub.cdn().count("GET", "model-old"), 0U);
  EXPECT_TRUE(told("leaves out model-old.safetensors"));
}

TEST_F(PullTest, NamesAShardThatTheIndexHasAndTheRepositoryHasNot) {
  serve_shards(hub, kTwoShards);
  hub.files.erase("model-00002-of-00002.safetensors");
  EXPECT_THAT(pull_error(), AllOf(StartsWith("not_found: "), HasSubstr("acme/tiny"),
                                  HasSubstr("model-00002-of-00002.safetensors")));
  EXPECT_EQ(hub.cdn().count("GET", "00001-of"), 0U) << "no shard is fetched in vain";
  EXPECT_TRUE(store().list().empty());
}

TEST_F(PullTest, RefusesAnIndexOfShardsThatIsNone) {
  for (const char* index : {"", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": {"a": 1}})",
                            R"({"weight_map": {}})"}) {
    serve_shards(hub, index);
    EXPECT_THAT(pull_error(), StartsWith("corrupt: acme/tiny/model.safetensors.index.json: "))
        << index;
  }
}

TEST_F(PullTest, ASmallFileIsCheckedByItsGitId) {
  hub.files.clear();
  hub.files["config.json"] = {"[]", false};  // not what the fake's id is of
  hub.files["model.safetensors"] = {fake_model(1000), true};
  EXPECT_THAT(pull_error(), AllOf(StartsWith("corrupt: "), HasSubstr("git id")));
}

TEST_F(PullTest, RefusesFileNamesThatLeadOutOfTheFolder) {
  for (const char* name : {"../../evil.gguf", "/etc/evil.gguf", "a/./b.gguf", "a//b.gguf"}) {
    hub.files = {{name, {model, true}}};
    EXPECT_THAT(pull_error(), AllOf(StartsWith("corrupt: "), HasSubstr("unsafe name"))) << name;
  }
  hub.files = {{"..\\\\..\\\\evil.gguf", {model, true}}};  // as JSON writes ..\..\evil.gguf
  EXPECT_THAT(pull_error(), HasSubstr("unsafe name"));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, RefusesARedirectToAFileAndALoopOfRedirects) {
  hub.on_cdn = [](const ServedRequest&) {
    return ServedResponse{.status = 302, .headers = {{"Location", "file:///etc/passwd"}}};
  };
  EXPECT_THAT(pull_error(), HasSubstr("redirect to a file"));
  hub.on_cdn = [&](const ServedRequest& request) {
    return ServedResponse{.status = 302, .headers = {{"Location", request.target}}};
  };
  EXPECT_THAT(pull_error(), HasSubstr("more than 10 redirects"));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, RefusesPlainHttpToAnotherMachine) {
  hub.on_cdn = [](const ServedRequest&) {
    return ServedResponse{.status = 302, .headers = {{"Location", "http://192.0.2.1/x.gguf"}}};
  };
  EXPECT_THAT(pull_error(), AllOf(HasSubstr("refusing plain http"), HasSubstr("192.0.2.1")));
}

TEST_F(PullTest, RefusesEndlessHeaders) {
  hub.on_hub = [](const ServedRequest&) {
    ServedResponse response;
    for (int i = 0; i < 100; ++i) response.headers.emplace_back("X-Pad", std::string(1000, 'x'));
    return response;
  };
  EXPECT_THAT(pull_error(), AllOf(StartsWith("resource_limit: "), HasSubstr("headers")));
}

TEST_F(PullTest, RefusesAnAnswerThatIsNotTheHubs) {
  for (const char* body :
       {"<html>", "{}", "[1,2]", "{\"sha\":7}", "{\"sha\":\"main\"}",
        "{\"sha\":\"0123456789abcdef0123456789abcdef01234567\",\"siblings\":{}}"}) {
    hub.on_hub = [&](const ServedRequest&) { return ServedResponse{.body = body}; };
    EXPECT_THAT(pull_error(), StartsWith("network: ")) << body;
  }
}

TEST_F(PullTest, NoServerAtAllIsOneClearError) {
  EXPECT_THAT(error_of([&] { store().pull("hf:acme/tiny", network("http://127.0.0.1:1")); }),
              AllOf(StartsWith("network: "), HasSubstr("127.0.0.1")));
}

TEST_F(PullTest, CtrlCStopsAtOnceAndKeepsThePart) {
  std::atomic<bool> cancelled{false};
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    ServedResponse response = serve_bytes(request, model, "\"one\"");
    response.cut_after = 100'000;
    return response;
  };
  StoreOptions stoppable = options();
  stoppable.cancelled = &cancelled;
  stoppable.notice = [&](const std::string&) { cancelled = true; };  // at the first retry
  NetworkOptions slow = network(hub.endpoint());
  slow.first_backoff = std::chrono::seconds(20);
  EXPECT_THAT(error_of([&] { Store(stoppable).pull("hf:acme/tiny", slow); }),
              StartsWith("cancelled: "));
  EXPECT_TRUE(store().list().empty());
  EXPECT_EQ(store().clear_partial() / 1000, 100U) << "the part, and a few bytes of state";
  EXPECT_TRUE(store_is_empty());
}

TEST_F(PullTest, TwoPullsOfOneModelFetchItOnce) {
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    ServedResponse response = serve_bytes(request, model, "\"one\"");
    response.before_body = [] { std::this_thread::sleep_for(std::chrono::milliseconds(200)); };
    return response;
  };
  const auto quiet = [&] {
    StoreOptions options;
    options.root = folder / "store";
    Store(options).pull("hf:acme/tiny", network(hub.endpoint()));
  };
  std::thread first(quiet);
  std::thread second(quiet);
  first.join();
  second.join();
  EXPECT_EQ(hub.cdn().count("GET", "/bytes/"), 1U);
  EXPECT_EQ(read(store().find("acme/tiny")), model);
  EXPECT_EQ(store().list().size(), 1U);
}

TEST_F(PullTest, PullingAgainFetchesNothingThatIsHere) {
  pull();
  pull("hf:acme/tiny", "other-name");
  EXPECT_EQ(hub.cdn().count("GET", "/bytes/"), 1U);
  EXPECT_EQ(store().list().size(), 2U);
}

TEST_F(PullTest, PullingAgainMendsADamagedModel) {
  pull();
  const fs::path file = store().find("acme/tiny");
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
  std::ofstream(file, std::ios::binary) << fake_model(model.size(), 7);
  EXPECT_THAT(error_of([&] { store().find("acme/tiny"); }), StartsWith("corrupt: "));
  pull();
  EXPECT_EQ(read(store().find("acme/tiny")), model);
  store().verify("acme/tiny");
}

TEST_F(PullTest, AModelThisVersionCannotRunIsKeptForTheNextOne) {
  StoreOptions old = options();
  old.validator = [](const fs::path&) { fail(ErrorCode::Unsupported, "architecture 'new'"); };
  EXPECT_THAT(error_of([&] { Store(old).pull("hf:acme/tiny", network(hub.endpoint())); }),
              HasSubstr("architecture 'new'"));
  EXPECT_TRUE(store().list().empty());
  pull();
  EXPECT_EQ(hub.cdn().count("GET", "/bytes/"), 1U) << "the bytes were still there";
}

TEST_F(PullTest, AFullDiskInMidPullIsOneErrorAndCanBeResumed) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{200'000, 200'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error = pull_error();
    ::_exit(error.starts_with("io: ") && error.find("free some space") != std::string::npos ? 0
                                                                                            : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(store().list().empty());
  EXPECT_FALSE(fs::exists(folder / "store/blobs"));
  pull();
  EXPECT_EQ(hub.cdn().log().back().header("range"), "bytes=200000-");
  EXPECT_EQ(read(store().find("acme/tiny")), model);
}

TEST_F(PullTest, FetchesAPlainUrl) {
  HttpServer server(
      [&](const ServedRequest& request) { return serve_bytes(request, model, "\"e\""); });
  const StoredModel pulled =
      store().pull(server.url("/files/my%20model.gguf?key=secret"), network());
  EXPECT_EQ(pulled.name, "my-model");
  EXPECT_EQ(read(store().find("my-model")), model);
  EXPECT_THAT(pulled.origin + pulled.spec, Not(HasSubstr("secret")));
}

TEST_F(PullTest, AUrlMayPinItsDigest) {
  HttpServer server(
      [&](const ServedRequest& request) { return serve_bytes(request, model, "\"e\""); });
  const std::string url = server.url("/m.gguf#sha256=");
  store().pull(url + sha256_of(model), network());
  EXPECT_THAT(error_of([&] { store().pull(url + std::string(64, '0'), network(), "other"); }),
              StartsWith("corrupt: "));
  EXPECT_EQ(store().list().size(), 1U);
}

TEST_F(PullTest, AUrlThatIsNotFoundOrNoModelSaysSo) {
  HttpServer server([](const ServedRequest&) { return ServedResponse{.status = 404}; });
  EXPECT_THAT(error_of([&] { store().pull(server.url("/m.gguf"), network()); }),
              AllOf(StartsWith("not_found: "), HasSubstr("404")));
  EXPECT_THAT(error_of([&] { store().pull(server.url("/m.zip"), network()); }), HasSubstr(".gguf"));
  EXPECT_THAT(error_of([&] { store().pull("http://192.0.2.1/m.gguf", network()); }),
              HasSubstr("refusing plain http"));
  EXPECT_TRUE(store_is_empty());
}

}  // namespace
}  // namespace fathom::test
