#include "serve/client/client_model.h"

#include <filesystem>
#include <utility>

#ifdef POLYVEIL_RELEASED
#include "model/client/text/load_client_half.h"
#endif

namespace polyveil::serve {
namespace {

#ifdef POLYVEIL_RELEASED
using model::ClientFilesOf;
using model::MakeClientHalf;
#else
Result<model::ClientFiles> ClientFilesOf(const std::string& path) {
  if (!model::IsBundle(path))
    return MakeError(ErrorCode::kNotFound,
                     "{}: no bundle (no model.json), and this program was built without released "
                     "models",
                     path);
  return model::ClientFilesOfBundle(path);
}

Result<ClientHalfPtr> MakeClientHalf(model::ClientFiles files, bool text_only = false) {
  const model::ClientFile* file = files.Find(model::kClientConfigName);
  if (file == nullptr) return MakeError(ErrorCode::kNotFound, "no {}", model::kClientConfigName);
  PV_ASSIGN_OR_RETURN(const model::ClientConfig config, model::ParseClientConfig(file->text()));
  if (!config.family.empty())
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: a tokenizer of family {}: this program was built without released models",
                     config.name, config.family);
  PV_ASSIGN_OR_RETURN(auto codec, model::BundleCodec(files));
  return model::ClientHalf::Create(std::move(files), std::move(codec), text_only);
}
#endif

}  // namespace

Result<ClientHalfPtr> LoadClientHalf(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    return MakeError(ErrorCode::kNotFound, "{}: no such model: neither a folder nor a file", path);
  PV_ASSIGN_OR_RETURN(model::ClientFiles files, ClientFilesOf(path));
  return MakeClientHalf(std::move(files));
}

Result<ClientHalfPtr> FetchClientHalf(RemoteModel& remote, const ClientCacheOptions& options) {
  PV_ASSIGN_OR_RETURN(model::ClientFiles files, FetchClientFiles(remote, options));
  PV_ASSIGN_OR_RETURN(ClientHalfPtr half, MakeClientHalf(std::move(files), options.text_only));
  const ModelInfo& info = remote.info();
  if (half->width() != info.d_model)
    return MakeError(ErrorCode::kMismatch, "the server's model has width {}, its client's half {}",
                     info.d_model, half->width());
  return half;
}

}  // namespace polyveil::serve
