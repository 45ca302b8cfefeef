// A model's file that changes while the server uses it.
#include <gmock/gmock.h>

#include "cli/serving_program.h"
#include "cli/tiny_model.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

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
  const ServingProgram server({model.string()}, folder / "home");
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
  ServingProgram server({model.string()}, folder / "home");
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
