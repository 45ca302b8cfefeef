#include "server/tls.h"

#include <openssl/ssl.h>

#include <boost/asio/buffer.hpp>

#include "base/error.h"

namespace fathom::server {

std::unique_ptr<boost::asio::ssl::context> make_tls(const TlsFiles& files) {
  namespace ssl = boost::asio::ssl;
  auto tls = std::make_unique<ssl::context>(ssl::context::tls_server);
  SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_mode(tls->native_handle(), SSL_MODE_RELEASE_BUFFERS);  // idle ones cost little
  boost::system::error_code error;
  tls->use_certificate_chain(boost::asio::buffer(files.certificate), error);
  require(!error, ErrorCode::InvalidArgument, "{}: there is no certificate in PEM form in it ({})",
          files.certificate_origin, error.message());
  // A password would be asked for at a terminal that nobody watches.
  tls->set_password_callback([](std::size_t, ssl::context::password_purpose) { return ""; }, error);
  tls->use_private_key(boost::asio::buffer(files.key), ssl::context::pem, error);
  const bool pair = !error && SSL_CTX_check_private_key(tls->native_handle()) == 1;
  require(pair, ErrorCode::InvalidArgument,
          "{}: there is no key in PEM form, without a password, in it that belongs to {}{}",
          files.key_origin, files.certificate_origin,
          error ? " (" + error.message() + ")" : std::string());
  return tls;
}

}  // namespace fathom::server
