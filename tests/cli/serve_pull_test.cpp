// `fathom serve --allow-pull`: a process of its own fetches, from a Hub on loopback; the server's
// own can connect to nothing.
#include <gmock/gmock.h>

#include "cli/serving_program.h"
#include "cli/tiny_model.h"
#include "server/process.h"
#include "server/test_server.h"
#include "store/http_server.h"

namespace fathom::test {
namespace {

namespace fs = std::filesystem;
using server::Json;
using ::testing::HasSubstr;

/// A field of /proc/PID/status; "" if there is no such process.
std::string status_of(pid_t process, const std::string& field) {
  std::ifstream in("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(field + ":"))
      return line.substr(line.find_first_not_of(" \t", field.size() + 1));
  }
  return {};
}

/// 0: there is none.
pid_t child_of(pid_t parent) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t process = std::atoi(entry.path().filename().c_str());
    if (process > 0 && status_of(process, "PPid") == std::to_string(parent)) return process;
  }
  return 0;
}

class ServePull : public testing::Test {
 protected:
  ServePull() {
    for (const auto& entry : fs::directory_iterator(make_tiny_model(folder.path()))) {
      std::ifstream in(entry.path(), std::ios::binary);
      hub.files[entry.path().filename()] = {{std::istreambuf_iterator<char>(in), {}}};
    }
  }

  void serve(std::vector<std::string> arguments = {"--allow-pull", "hf:acme/*"}) {
    program = std::make_unique<ServingProgram>(
        std::move(arguments), folder / "home",
        ServingProgram::Environment{{"HF_ENDPOINT", hub.endpoint()},
                                    {"http_proxy", ""},
                                    {"no_proxy", "localhost,127.0.0.1"}});
    ASSERT_NE(program->port(), 0);
  }
  Reply ask(const std::string& bytes) {
    Client client(program->port());
    client.send(bytes);
    return client.reply();
  }
  Reply order(const char* path, const std::string& model = "hf:acme/tiny") {
    return ask(post(path, Json{{"model", model}}.dump()));
  }
  Json pull_at(std::size_t index) { return ask(get("/v1/pulls")).json().at("data").at(index); }
  bool becomes(const std::string& status) {
    std::string now;
    return soon([&] {
             now = pull_at(0).at("status");
             return now != "waiting" && now != "running";
           }) &&
           now == status;
  }
  Reply chat(const std::string& model) {
    return ask(post("/v1/chat/completions",
                    Json{{"model", model},
                         {"messages", Json::array({{{"role", "user"}, {"content", "hello"}}})},
                         {"max_tokens", 4}}
                        .dump()));
  }

  TemporaryFolder folder;
  FakeHub hub;
  std::unique_ptr<ServingProgram> program;
};

TEST_F(ServePull, AModelIsFetchedAndAnswers) {
  serve();
  EXPECT_TRUE(ask(get("/v1/models")).json().at("data").empty());
  EXPECT_EQ(ask(get("/ready")).json().at("model"), nullptr);
  EXPECT_EQ(chat("acme/tiny").status, 404);
  const Reply asked = order("/v1/pulls");
  EXPECT_EQ(asked.status, 200) << asked.body;
  ASSERT_TRUE(becomes("done")) << pull_at(0);
  EXPECT_EQ(pull_at(0).at("name"), "acme/tiny");
  EXPECT_EQ(ask(get("/v1/models")).json().at("data").at(0).at("id"), "acme/tiny");
  const Reply answer = chat("acme/tiny");
  EXPECT_EQ(answer.status, 200) << answer.body;
}

TEST_F(ServePull, NothingElseIsFetchedWhateverIsAsked) {
  write_text(folder / "mine.gguf", "GGUF");
  serve({"--allow-pull", "hf:acme/*", "--allow-pull", (folder / "*").string()});
  EXPECT_EQ(order("/v1/pulls", "hf:evil/tiny").status, 403);
  EXPECT_EQ(order("/v1/pulls", "smollm2:135m").status, 403);
  EXPECT_EQ(hub.hub().log().size(), 0U);
  // A file of this machine is none to be fetched, though the rule would allow it.
  EXPECT_EQ(order("/v1/pulls", (folder / "mine.gguf").string()).status, 200);
  ASSERT_TRUE(becomes("failed"));
  EXPECT_THAT(pull_at(0).at("error").at("message"), HasSubstr("none of the models"));
}

TEST_F(ServePull, AFailureIsToldAndTheNextTrySucceeds) {
  std::atomic<bool> broken = true;
  hub.on_hub = [&](const ServedRequest&) -> std::optional<ServedResponse> {
    if (broken) return ServedResponse{.status = 404};
    return std::nullopt;
  };
  serve();
  order("/v1/pulls");
  ASSERT_TRUE(becomes("failed")) << pull_at(0);
  EXPECT_THAT(pull_at(0).at("error").at("message"), HasSubstr("acme/tiny"));
  broken = false;
  order("/v1/pulls");
  EXPECT_TRUE(becomes("done")) << pull_at(0);
}

TEST_F(ServePull, OneThatIsCancelledStopsAndCanBeHadAgain) {
  std::atomic<bool> held = true, reached = false;
  hub.on_cdn = [&](const ServedRequest& request) -> std::optional<ServedResponse> {
    const auto file = hub.files.at(request.path().substr(std::string_view("/bytes/").size()));
    ServedResponse response = serve_bytes(request, file.content, "\"x\"");
    response.before_body = [&] {
      reached = true;
      for (int i = 0; held && i < 1000; ++i) ::usleep(10'000);
    };
    return response;
  };
  serve();
  order("/v1/pulls");
  ASSERT_TRUE(soon([&] { return reached.load(); }));
  EXPECT_EQ(order("/v1/pulls/cancel").status, 200);
  EXPECT_TRUE(becomes("cancelled")) << pull_at(0);
  held = false;
  order("/v1/pulls");
  EXPECT_TRUE(becomes("done")) << pull_at(0);
}

TEST_F(ServePull, TheFetchingProcessHasWallsAndEndsWithTheServer) {
  serve();
  order("/v1/pulls");  // it is at work: its walls are up
  ASSERT_TRUE(becomes("done")) << pull_at(0);
  const pid_t server = program->process();
  const pid_t fetching = child_of(server);
  ASSERT_GT(fetching, 0);
  EXPECT_EQ(status_of(fetching, "Name"), "fathom-pull");
  EXPECT_EQ(status_of(fetching, "Seccomp"), "2");
  EXPECT_EQ(status_of(server, "Seccomp"), "2");
  EXPECT_EQ(status_of(fetching, "NoNewPrivs"), "1");
  program.reset();  // SIGKILL: the server cannot tell anybody
  EXPECT_TRUE(soon([&] {
    const std::string state = status_of(fetching, "State");
    return state.empty() || state.starts_with("Z");
  }));
}

TEST_F(ServePull, WithoutTheFetchingProcessTheServerServesOn) {
  serve();
  order("/v1/pulls");
  ASSERT_TRUE(becomes("done")) << pull_at(0);
  ::kill(child_of(program->process()), SIGKILL);
  EXPECT_TRUE(soon([&] { return order("/v1/pulls", "hf:acme/other").status == 503; }));
  EXPECT_EQ(chat("acme/tiny").status, 200);
}

TEST(AllowPull, IsForAServerOfTheWholeStore) {
  const Output output = run({"serve", "m.gguf", "--allow-pull", "known"});
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err, HasSubstr("name no MODEL"));
  EXPECT_EQ(output.error_lines(), 1U) << output.err;
  EXPECT_THAT(run({"serve", "--allow-pull", "known", "m.gguf"}).err, HasSubstr("name no MODEL"));
  EXPECT_THAT(run({"serve"}).err, HasSubstr("there is no model to serve"));
}

}  // namespace
}  // namespace fathom::test
