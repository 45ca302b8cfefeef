// The server's certificate and key.
#pragma once

#include <boost/asio/ssl/context.hpp>

#include <memory>

#include "server/tls_files.h"

namespace fathom::server {

/// TLS 1.2 and later, with OpenSSL's own choice of ciphers. Throws Error(InvalidArgument), naming
/// the file, for what is no certificate or key, or if they do not belong together.
std::unique_ptr<boost::asio::ssl::context> make_tls(const TlsFiles& files);

}  // namespace fathom::server
