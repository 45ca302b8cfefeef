// Whom the store trusts on the network, and the way its requests take.
#include <gmock/gmock.h>

#include <fstream>

#include "store/http.h"
#include "store/store_fixture.h"

namespace fathom::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class NetworkTest : public StoreTest {
 protected:
  HttpServer::Handler serve_model() {
    return [this](const ServedRequest& request) { return serve_bytes(request, model, "\"e\""); };
  }
  std::string pull_error(const std::string& spec, const NetworkOptions& options) {
    return error_of([&] { store().pull(spec, options); });
  }
  const std::string model = fake_model(5000);
};

TEST_F(NetworkTest, RefusesACertificateThatNobodyVouchesFor) {
  HttpServer server(serve_model(), HttpServer::SelfSigned{});
  const std::string error = pull_error(server.url("/m.gguf"), network());
  EXPECT_THAT(error, AllOf(StartsWith("network: "), HasSubstr("certificate"),
                           HasSubstr("self-signed"), HasSubstr("SSL_CERT_FILE")));
  EXPECT_TRUE(server.log().empty()) << "nothing may be asked before the certificate is accepted";
  EXPECT_TRUE(store_is_empty());
  for (const std::string& notice : notices) {
    EXPECT_THAT(notice, ::testing::Not(HasSubstr("going on"))) << "a retry cannot mend it";
  }
}

TEST_F(NetworkTest, TakesTheCertificatesItIsGiven) {
  HttpServer server(serve_model(), HttpServer::SelfSigned{});
  NetworkOptions options = network();
  options.ca_file = write("ca.pem", server.certificate());
  store().pull(server.url("/m.gguf"), options);
  EXPECT_EQ(read(store().find("m")), model);
}

TEST_F(NetworkTest, RefusesACertificateForAnotherHost) {
  HttpServer server(serve_model(), HttpServer::SelfSigned{});
  NetworkOptions options = network();
  options.ca_file = write("ca.pem", server.certificate());
  // The certificate is for 127.0.0.1, and this name leads there too.
  EXPECT_THAT(pull_error(server.url("/m.gguf", "localhost"), options),
              AllOf(StartsWith("network: "), HasSubstr("localhost")));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(NetworkTest, PipsTrustedHostsNeedNoCertificate) {
  const std::string wheel = make_wheel("tiny_llm", "1.0", {{"tiny_llm/m.gguf", model}});
  HttpServer server(
      [&](const ServedRequest& request) -> ServedResponse {
        if (request.path().ends_with(".whl")) return serve_bytes(request, wheel, "\"w\"");
        return {.headers = {{"Content-Type", "text/html"}},
                .body = "<a href=\"/tiny_llm-1.0-py3-none-any.whl\">tiny</a>"};
      },
      HttpServer::SelfSigned{});
  NetworkOptions options = network();
  options.packages.index_url = server.url("/simple");
  EXPECT_THAT(pull_error("pypi:tiny-llm", options), HasSubstr("certificate"));
  options.packages.trusted_hosts = {"127.0.0.1"};
  store().pull("pypi:tiny-llm", options);
  EXPECT_EQ(read(store().find("tiny-llm")), model);
}

TEST_F(NetworkTest, PlainHttpGoesThroughItsProxy) {
  HttpServer proxy(serve_model());  // a proxy sees whole URLs
  NetworkOptions options = network();
  options.allow_insecure_http = true;
  options.http_proxy = proxy.url();
  options.https_proxy = "http://127.0.0.1:9";
  store().pull("http://models.example/m.gguf", options);
  EXPECT_EQ(read(store().find("m")), model);
  ASSERT_FALSE(proxy.log().empty());
  EXPECT_EQ(proxy.log().back().target, "http://models.example/m.gguf");

  options.no_proxy = "models.example";
  options.retries = 0;
  EXPECT_THAT(pull_error("http://models.example/n.gguf", options), HasSubstr("models.example"));
  EXPECT_EQ(proxy.count("GET", "/n.gguf"), 0U) << "no_proxy means the host itself";
}

TEST_F(NetworkTest, HttpsAsksItsProxyForATunnelOnly) {
  HttpServer proxy([](const ServedRequest&) { return ServedResponse{.status = 403}; });
  NetworkOptions options = network();
  options.https_proxy = proxy.url();
  options.retries = 0;
  options.hub.endpoint = "https://hub.example";
  options.hub.token = "secret";
  EXPECT_THAT(pull_error("hf:acme/tiny", options),
              AllOf(StartsWith("network: "), HasSubstr("hub.example"), HasSubstr("403")));
  ASSERT_FALSE(proxy.log().empty());
  for (const ServedRequest& request : proxy.log()) {
    EXPECT_EQ(request.method, "CONNECT");
    EXPECT_EQ(request.target, "hub.example:443");
    EXPECT_EQ(request.header("authorization"), "") << "the token is for the Hub, not for the proxy";
  }
}

TEST_F(NetworkTest, PackagesTakePipsOwnProxy) {
  HttpServer others([](const ServedRequest&) { return ServedResponse{.status = 500}; });
  HttpServer pips([](const ServedRequest&) { return ServedResponse{.status = 403}; });
  NetworkOptions options = network();
  options.https_proxy = others.url();
  options.packages.proxy = pips.url();
  options.packages.index_url = "https://index.example/simple";
  options.packages.retries = 0;
  EXPECT_THAT(pull_error("pypi:tiny-llm", options), HasSubstr("403"));
  EXPECT_EQ(pips.count("CONNECT", "index.example:443"), pips.log().size());
  EXPECT_FALSE(pips.log().empty());
  EXPECT_TRUE(others.log().empty());
}

}  // namespace
}  // namespace fathom::test
