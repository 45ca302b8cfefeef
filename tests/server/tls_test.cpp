// The same server under TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>

#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary
using std::chrono::milliseconds;
using testing::HasSubstr;

std::string text_of(BIO* memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  return std::string(data, static_cast<std::size_t>(size));
}

/// A certificate for 127.0.0.1 that vouches for itself.
server::TlsFiles self_signed() {
  const std::shared_ptr<EVP_PKEY> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::shared_ptr<X509> certificate(X509_new(), X509_free);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* name = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("fathom test"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  if (X509_sign(certificate.get(), key.get(), EVP_sha256()) == 0) std::abort();
  const std::shared_ptr<BIO> pem(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio_X509(pem.get(), certificate.get());
  const std::shared_ptr<BIO> secret(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio_PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {text_of(pem.get()), text_of(secret.get()), "cert.pem", "key.pem"};
}

server::ListenerOptions secure(const server::TlsFiles& files = self_signed()) {
  server::ListenerOptions options;
  options.tls = files;
  return options;
}

/// Trusts exactly the server's own certificate.
class SecureClient {
 public:
  SecureClient(std::uint16_t port, const std::string& certificate, int newest = 0)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    const std::shared_ptr<BIO> pem(
        BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())), BIO_free);
    const std::shared_ptr<X509> trusted(PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr),
                                        X509_free);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context_.get()), trusted.get());
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    if (newest != 0) SSL_CTX_set_max_proto_version(context_.get(), newest);
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) std::abort();
    ssl_.reset(SSL_new(context_.get()), SSL_free);
    SSL_set_fd(ssl_.get(), socket_);
    connected_ = SSL_connect(ssl_.get()) == 1;
  }
  ~SecureClient() { ::close(socket_); }
  SecureClient(const SecureClient&) = delete;
  SecureClient& operator=(const SecureClient&) = delete;

  bool connected() const { return connected_; }
  void send(const std::string& bytes) {
    SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
  }
  /// Until `end` has come, or the server closes; then ended_well() tells whether it said so.
  std::string read_until(const std::string& end) {
    std::string text;
    char block[4096];
    while (text.find(end) == std::string::npos) {
      const int count = SSL_read(ssl_.get(), block, sizeof block);
      if (count <= 0) break;
      text.append(block, static_cast<std::size_t>(count));
    }
    return text;
  }
  bool ended_well() const { return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0; }

 private:
  std::shared_ptr<SSL_CTX> context_;
  std::shared_ptr<SSL> ssl_;
  int socket_ = -1;
  bool connected_ = false;
};

class Tls : public testing::Test {
 protected:
  server::TlsFiles files = self_signed();
};

TEST_F(Tls, AnswersAreGivenWholeAndStreamedOverOneConnection) {
  TestServer server(secure(files));
  SecureClient client(server.port(), files.certificate);
  ASSERT_TRUE(client.connected());
  client.send(get("/openapi.json"));
  EXPECT_THAT(client.read_until("https://localhost"), HasSubstr("200 OK"));
  client.read_until("}}}");
  const std::string chat = R"({"messages": [{"role": "user", "content": "v"}], "stream": true})";
  client.send(post("/v1/chat/completions", chat));
  EXPECT_THAT(client.read_until("[DONE]\n\n\r\n0\r\n\r\n"), HasSubstr("\"content\":\"w\""));
}

TEST_F(Tls, TheEndIsSaid) {
  TestServer server(secure(files));
  SecureClient client(server.port(), files.certificate);
  client.send(get("/health", "Connection: close\r\n"));
  EXPECT_THAT(client.read_until("no such text"), HasSubstr("\"ok\""));
  EXPECT_TRUE(client.ended_well()) << "else an answer could be cut off unnoticed";
}

TEST_F(Tls, WhoSpeaksPlainHttpOrOldTlsGetsNothing) {
  TestServer server(secure(files));
  Client plain(server.port());
  plain.send(get("/health"));
  const std::string said = plain.read_until([](const std::string&) { return false; });
  EXPECT_EQ(said.find("HTTP/1.1 200"), std::string::npos);
  SecureClient old(server.port(), files.certificate, TLS1_1_VERSION);
  EXPECT_FALSE(old.connected());
  SecureClient good(server.port(), files.certificate, TLS1_2_VERSION);
  EXPECT_TRUE(good.connected());
}

TEST_F(Tls, AHandshakeThatIsNotFinishedIsEnded) {
  server::ListenerOptions options = secure(files);
  options.header_timeout = milliseconds(50);
  TestServer server(options);
  Client silent(server.port());
  for (int i = 0; i < 500 && server.api().metrics().connections == 0; ++i) ::usleep(2'000);
  for (int i = 0; i < 500 && server.api().metrics().connections > 0; ++i) ::usleep(2'000);
  EXPECT_EQ(server.api().metrics().connections, 0);
}

TEST_F(Tls, OneThatLeavesFreesItsPlace) {
  TestServer server(secure(files), {}, milliseconds(20));
  {
    SecureClient client(server.port(), files.certificate);
    client.send(post("/v1/chat/completions",
                     R"({"messages": [{"role": "user", "content": "a"}], "stream": true})"));
    client.read_until("\"c\"");
  }
  for (int i = 0; i < 500 && server.stats().active > 0; ++i) ::usleep(2'000);
  EXPECT_EQ(server.stats().active, 0U);
}

TEST_F(Tls, WhatIsNoCertificateOrNotItsKeyIsSaid) {
  const auto message = [](server::TlsFiles wrong) {
    try {
      TestServer server(secure(wrong));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("taken");
  };
  server::TlsFiles wrong = files;
  wrong.certificate = "nothing";
  EXPECT_THAT(message(wrong), HasSubstr("cert.pem: there is no certificate"));
  wrong = files;
  wrong.key = self_signed().key;
  EXPECT_THAT(message(wrong), HasSubstr("key.pem: there is no key"));
}

}  // namespace
}  // namespace fathom
