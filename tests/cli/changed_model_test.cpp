// A model's file that changes while the server uses it.
#include <gmock/gmock.h>

#include "cli/tiny_model.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

/// `fathom serve` in a process of its own.
class Program {
 public:
  Program(const std::filesystem::path& model, const std::filesystem::path& home) {
    int out[2], err[2];
    if (::pipe(out) != 0 || ::pipe(err) != 0) std::abort();
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(out[1], 1);
      ::dup2(err[1], 2);
      for (const int file : {out[0], out[1], err[0], err[1]}) ::close(file);
      ::setenv("FATHOM_HOME", home.c_str(), 1);
      const std::string name = program();
      ::execl(name.c_str(), name.c_str(), "serve", model.c_str(), "--port", "0", "--json", nullptr);
      ::_exit(127);
    }
    ::close(out[1]);
    ::close(err[1]);
    out_ = out[0];
    err_ = err[0];
    std::string said;
    char byte = 0;
    while (said.find('}') == said.npos && ::read(out_, &byte, 1) == 1) said += byte;
    const auto json = nlohmann::json::parse(said, nullptr, false);
    if (json.is_discarded()) return;
    const std::string url = json.at("url");
    port_ = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  }
  ~Program() {
    ::kill(child_, SIGKILL);
    ::close(out_);
    ::close(err_);
    ::waitpid(child_, nullptr, 0);
  }
  std::uint16_t port() const { return port_; }
  /// How it ended, which is waited for, and what it said of it.
  std::pair<int, std::string> end() {
    std::string said;
    char block[4096];
    for (ssize_t count; (count = ::read(err_, block, sizeof block)) > 0;) {
      said.append(block, static_cast<std::size_t>(count));
    }
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOWAIT);
    return {info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status, said};
  }

 private:
  pid_t child_ = -1;
  int out_ = -1, err_ = -1;
  std::uint16_t port_ = 0;
};

Reply ask(std::uint16_t port) {
  Client client(port);
  client.send(post("/v1/chat/completions",
                   R"({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8,
                       "temperature": 0})"));
  return client.reply();
}

TEST(ChangedModel, ThatIsReplacedIsUsedAsItWas) {
  const TemporaryFolder folder;
  const auto model = make_tiny_model(folder.path());
  const Program server(model, folder / "home");
  ASSERT_NE(server.port(), 0);
  const auto words = [&] { return ask(server.port()).json().at("choices")[0].at("message"); };
  const auto before = words();
  write_text(folder / "new", "something else");
  std::filesystem::rename(folder / "new", model / "model.safetensors");
  EXPECT_EQ(words(), before);
}

TEST(ChangedModel, ThatIsCutOffEndsTheServerWithItsReason) {
  const TemporaryFolder folder;
  const auto model = make_tiny_model(folder.path());
  Program server(model, folder / "home");
  ASSERT_NE(server.port(), 0);
  EXPECT_EQ(ask(server.port()).status, 200);
  std::filesystem::resize_file(model / "model.safetensors", 4096);
  EXPECT_EQ(ask(server.port()).status, 0) << "no answer is made of what is not there";
  const auto [code, said] = server.end();
  EXPECT_EQ(code, 1);
  EXPECT_THAT(said, HasSubstr("has become shorter"));
}

}  // namespace
}  // namespace fathom
