#include "wire/client/key_writer.h"

#include "ckks/client/key_generator.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::wire {
namespace {

ckks::KeySwitchKey MakeKey(const ckks::KeyGenerator& generator, const ManifestEntry& entry) {
  switch (entry.use) {
    case KeyUse::kRelinearization:
      return generator.Relinearization(entry.level);
    case KeyUse::kConjugation:
      return generator.Conjugation(entry.level);
    case KeyUse::kToSparse:
      return generator.ToSparse();
    case KeyUse::kToDense:
      return generator.ToDense();
    case KeyUse::kRotation:
      break;
  }
  return generator.Rotation(entry.rotation, entry.level);
}

}  // namespace

Status WriteKeyStream(const ckks::SecretKey& key, const ckks::KeyRequest& request,
                      const ByteSink& sink, Progress* progress) {
  const ckks::Parameters& params = *key.params();
  PV_ASSIGN_OR_RETURN(const auto manifest, ManifestOf(params, request));
  Binding binding;
  binding.params = params.digest();
  binding.key_id = KeyIdOf(key);
  if (progress) progress->Start(StreamBytes(manifest), "evaluation keys");
  PV_RETURN_IF_ERROR(sink(FormatManifest(binding, manifest)));
  if (progress) progress->Advance(ManifestBytes(manifest.size()));
  const ckks::KeyGenerator generator(key);
  for (size_t i = 0; i < manifest.size(); ++i) {
    if (progress) PV_RETURN_IF_ERROR(progress->Check());
    const ckks::KeySwitchKey made = MakeKey(generator, manifest[i]);
    PV_RETURN_IF_ERROR(sink(FormatKey(params, binding, static_cast<u32>(i), manifest[i], made)));
    if (progress) progress->Advance(manifest[i].record_bytes, manifest[i].Describe());
  }
  return {};
}

}  // namespace polyveil::wire
