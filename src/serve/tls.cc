#include "serve/tls.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/context.hpp>

namespace polyveil::serve {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

namespace {

Result<TlsContext> NewContext(ssl::context::method method) {
  auto context = std::make_shared<ssl::context>(method);
  SSL_CTX* const native = context->native_handle();
  if (SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION) != 1)
    return MakeError(ErrorCode::kSecurity, "TLS: this OpenSSL has no version 1.2");
  SSL_CTX_set_options(
      native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  return context;
}

Status Check(const error_code& error, const char* what, const std::string& file) {
  if (!error) return {};
  return MakeError(ErrorCode::kInvalidArgument, "TLS: {} {}: {}", what, file, error.message());
}

Status UseOwn(ssl::context& context, const TlsFiles& files) {
  if (files.certificate.empty() != files.key.empty())
    return MakeError(ErrorCode::kInvalidArgument,
                     "TLS: a certificate ('{}') and its key ('{}') belong together",
                     files.certificate, files.key);
  if (files.certificate.empty()) return {};
  error_code error;
  context.use_certificate_chain_file(files.certificate, error);
  PV_RETURN_IF_ERROR(Check(error, "certificate", files.certificate));
  context.use_private_key_file(files.key, ssl::context::pem, error);
  PV_RETURN_IF_ERROR(Check(error, "key", files.key));
  if (SSL_CTX_check_private_key(context.native_handle()) == 1) return {};
  return MakeError(ErrorCode::kInvalidArgument, "TLS: key {} is not that of certificate {}",
                   files.key, files.certificate);
}

}  // namespace

Result<TlsContext> MakeServerTls(const TlsFiles& files) {
  if (files.certificate.empty())
    return MakeError(ErrorCode::kInvalidArgument, "TLS: a server needs a certificate");
  PV_ASSIGN_OR_RETURN(TlsContext context, NewContext(ssl::context::tls_server));
  PV_RETURN_IF_ERROR(UseOwn(*context, files));
  // Each resumed session would name its client to whoever listens; a handshake is cheap beside a
  // token.
  SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context->native_handle(), 0);
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_TICKET);
  if (files.authorities.empty()) return context;
  error_code error;
  context->load_verify_file(files.authorities, error);
  PV_RETURN_IF_ERROR(Check(error, "clients' authorities", files.authorities));
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  return context;
}

Result<TlsContext> MakeClientTls(const TlsFiles& files) {
  PV_ASSIGN_OR_RETURN(TlsContext context, NewContext(ssl::context::tls_client));
  PV_RETURN_IF_ERROR(UseOwn(*context, files));
  error_code error;
  if (files.authorities.empty()) {
    context->set_default_verify_paths(error);
    PV_RETURN_IF_ERROR(Check(error, "the system's authorities", ""));
  } else {
    context->load_verify_file(files.authorities, error);
    PV_RETURN_IF_ERROR(Check(error, "authorities", files.authorities));
  }
  context->set_verify_mode(ssl::verify_peer);
  return context;
}

Status ExpectHost(ssl_st* connection, const std::string& host) {
  error_code no_number;
  boost::asio::ip::make_address(host, no_number);
  X509_VERIFY_PARAM* const expected = SSL_get0_param(connection);
  X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  const bool set = no_number ? X509_VERIFY_PARAM_set1_host(expected, host.c_str(), 0) == 1 &&
                                   SSL_set_tlsext_host_name(connection, host.c_str()) == 1
                             : X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) == 1;
  if (set) return {};
  return MakeError(ErrorCode::kInvalidArgument, "TLS: '{}' is no name of a server", host);
}

}  // namespace polyveil::serve
