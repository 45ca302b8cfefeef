// What is read from the environment and from pip's configuration.
#include "cli/network_options.h"

#include <gmock/gmock.h>

#include <stdlib.h>

#include <fstream>
#include <map>

#include "base/error.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class NetworkOptionsTest : public ::testing::Test {
 protected:
  NetworkOptionsTest() {
    std::string name = (fs::temp_directory_path() / "fathom-env-XXXXXX").string();
    folder = ::mkdtemp(name.data());
    variables["HOME"] = (folder / "home").string();
    variables["XDG_CONFIG_DIRS"] = (folder / "xdg").string();
  }
  ~NetworkOptionsTest() override { fs::remove_all(folder); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((folder / path).parent_path());
    std::ofstream(folder / path) << text;
  }
  Environment environment() const {
    return [this](const std::string& name) -> std::optional<std::string> {
      const auto it = variables.find(name);
      return it == variables.end() ? std::nullopt : std::optional<std::string>(it->second);
    };
  }
  PackageIndexOptions pip() {
    return read_pip_config(environment(),
                           [this](const std::string& text) { problems.push_back(text); });
  }
  NetworkOptions network() { return read_network_options(environment(), {}); }

  fs::path folder;
  std::map<std::string, std::string> variables;
  std::vector<std::string> problems;
};

TEST_F(NetworkOptionsTest, PipConfIsReadAsItsOwnParserDoes) {
  write("home/.config/pip/pip.conf",
        "# comment\n"
        "[global]\n"
        "Index_URL = https://mirror.example/simple ; not a comment\n"
        "extra-index-url =\n"
        "    https://one.example/simple\n"
        "    # a comment inside\n"
        "    https://two.example/simple\n"
        "no-index: true\n"
        "cert=~/ca.pem\n"
        "timeout =\n"
        "nonsense\n"
        "[list]\n"
        "index-url = https://wrong.example/\n");
  const PackageIndexOptions options = pip();
  EXPECT_EQ(options.index_url, "https://mirror.example/simple ; not a comment");
  EXPECT_THAT(options.extra_index_urls,
              ElementsAre("https://one.example/simple", "https://two.example/simple"));
  EXPECT_TRUE(options.no_index);
  EXPECT_EQ(options.ca_file, folder / "home/ca.pem");
  EXPECT_FALSE(options.timeout.has_value()) << "an empty setting is none";
  EXPECT_THAT(problems, Contains(HasSubstr("line 11")));
}

TEST_F(NetworkOptionsTest, LaterPlacesAndSectionsAndTheEnvironmentWin) {
  write("xdg/pip/pip.conf", "[global]\nindex-url = a\nproxy = p\nretries = 1\nfind-links = x\n");
  write("home/.pip/pip.conf", "[global]\nindex-url = b\n");
  write("home/.config/pip/pip.conf", "[global]\nindex-url = c\nretries = 3\n");
  write("venv/pip.conf", "[global]\nindex-url = d\n[install]\nproxy = q\n");
  EXPECT_EQ(pip().index_url, "c");
  variables["VIRTUAL_ENV"] = (folder / "venv").string();
  EXPECT_EQ(pip().index_url, "d");
  EXPECT_EQ(pip().proxy, "q") << "a command's section is nearer than [global]";
  EXPECT_EQ(pip().retries, 3);
  variables["PIP_INDEX_URL"] = "e";
  variables["PIP_FIND_LINKS"] = "~/wheels https://w.example/";
  variables["PIP_DEFAULT_TIMEOUT"] = "2.5";
  const PackageIndexOptions options = pip();
  EXPECT_EQ(options.index_url, "e");
  EXPECT_THAT(options.find_links,
              ElementsAre((folder / "home/wheels").string(), "https://w.example/"));
  EXPECT_EQ(options.timeout, std::chrono::milliseconds(2500));
}

TEST_F(NetworkOptionsTest, PipConfigFileReplacesTheUsersAndDevNullReplacesAll) {
  write("xdg/pip/pip.conf", "[global]\nproxy = p\n");
  write("home/.config/pip/pip.conf", "[global]\nindex-url = user\nretries = 9\n");
  write("own.conf", "[global]\nindex-url = own\n");
  variables["PIP_CONFIG_FILE"] = (folder / "own.conf").string();
  EXPECT_EQ(pip().index_url, "own");
  EXPECT_EQ(pip().proxy, "p");
  EXPECT_FALSE(pip().retries.has_value());
  variables["PIP_CONFIG_FILE"] = "/dev/null";
  EXPECT_TRUE(pip_conf_files(environment()).empty());
  EXPECT_EQ(pip().proxy, "");
}

TEST_F(NetworkOptionsTest, ANonsensicalValueIsAnErrorThatNamesIt) {
  variables["PIP_NO_INDEX"] = "perhaps";
  EXPECT_THROW(pip(), Error);
  variables = {{"PIP_RETRIES", "-1"}};
  EXPECT_THROW(pip(), Error);
}

TEST_F(NetworkOptionsTest, TheHubsTokenComesFromVariableOrFile) {
  EXPECT_EQ(network().hub.token, "");
  EXPECT_EQ(network().hub.endpoint, "https://huggingface.co");
  write("home/.cache/huggingface/token", "hf_file\n");
  EXPECT_EQ(network().hub.token, "hf_file");
  write("hf/token", "hf_home\r\n");
  variables["HF_HOME"] = (folder / "hf").string();
  EXPECT_EQ(network().hub.token, "hf_home");
  variables["HF_TOKEN"] = "hf_variable";
  variables["HF_ENDPOINT"] = "https://hub.example";
  variables["HF_HUB_OFFLINE"] = "yes";
  EXPECT_EQ(network().hub.token, "hf_variable");
  EXPECT_EQ(network().hub.endpoint, "https://hub.example");
  EXPECT_TRUE(network().hub.offline);
  variables["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1";
  EXPECT_EQ(network().hub.token, "");
}

TEST_F(NetworkOptionsTest, ProxiesAndCertificatesFollowCurl) {
  variables["HTTP_PROXY"] = "http://ignored.example";
  variables["https_proxy"] = "http://proxy.example:3128";
  variables["ALL_PROXY"] = "socks5://all.example";
  variables["NO_PROXY"] = "localhost,.example";
  variables["SSL_CERT_FILE"] = "/ca.pem";
  const NetworkOptions options = network();
  EXPECT_EQ(options.https_proxy, "http://proxy.example:3128");
  EXPECT_EQ(options.http_proxy, "socks5://all.example");
  EXPECT_EQ(options.no_proxy, "localhost,.example");
  EXPECT_EQ(options.ca_file, "/ca.pem");
}

TEST_F(NetworkOptionsTest, TheStoresFolderIsChosenInOrder) {
  EXPECT_EQ(store_folder("", environment()), folder / "home/.local/share/fathom");
  variables["XDG_DATA_HOME"] = "relative";
  EXPECT_EQ(store_folder("", environment()), folder / "home/.local/share/fathom");
  variables["XDG_DATA_HOME"] = "/data";
  EXPECT_EQ(store_folder("", environment()), "/data/fathom");
  variables["FATHOM_HOME"] = "/models";
  EXPECT_EQ(store_folder("", environment()), "/models");
  EXPECT_EQ(store_folder("/chosen", environment()), "/chosen");
  variables.clear();
  EXPECT_THROW(store_folder("", environment()), Error);
}

}  // namespace
}  // namespace fathom
