// What a server under TLS shows of itself, read before its door is closed.
#pragma once

#include <string>

namespace fathom::server {

struct TlsFiles {
  std::string certificate;  // PEM: the server's certificate, then those that vouch for it
  std::string key;          // PEM, without a password
  std::string certificate_origin, key_origin;  // file names, for errors
};

}  // namespace fathom::server
