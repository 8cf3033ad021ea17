// A client of any served decoder that sends and reads residuals as they are, for tests: no tokens,
// no checks of results.
#pragma once

#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/encoder.h"
#include "serve/client/remote_model.h"
#include "wire/client/key_writer.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::testing {

// A key's owner who sends residuals as they are.
class ResidualClient {
 public:
  explicit ResidualClient(int port)
      : remote_(
            serve::RemoteModel::Connect({"127.0.0.1", std::to_string(port)}, Options()).value()),
        key_(ckks::SecretKey::Generate(remote_->params())),
        encoder_(remote_->params()) {
    auto upload = serve::KeyUpload::Begin(*remote_, wire::KeyIdOf(key_)).value();
    const auto sink = [&](wire::ByteView bytes) { return upload.Write(bytes); };
    const Status sent = wire::WriteKeyStream(key_, remote_->info().keys, sink);
    PV_CHECK(sent.ok(), "{}", sent.error().message);
    session_ = remote_->CreateSession(upload.Finish().value()).value();
  }

  const serve::ModelInfo& info() const { return remote_->info(); }
  const serve::RemoteStep& last() const { return last_; }  // what the server told of the last step

  std::vector<double> Step(std::vector<double> x) {
    for (double& v : x) v /= info().input_unit;
    x.resize(std::bit_ceil(x.size()));
    const int level = info().input_level;
    const auto plain =
        encoder_.Encode(std::span<const double>(x), level, remote_->params()->scale(level)).value();
    auto step = remote_->Step(session_, wire::KeyIdOf(key_), static_cast<u32>(position_++),
                              ckks::Encryptor(key_).Encrypt(plain), {});
    PV_CHECK(step.ok(), "{}", step.error().message);
    last_ = *std::move(step);
    const auto slots = encoder_.Decode(ckks::Decryptor(key_).Decrypt(last_.results.front()),
                                       static_cast<int>(x.size()));
    std::vector<double> out;
    for (int i = 0; i < info().d_model; ++i)
      out.push_back(slots[static_cast<size_t>(i)].real() * info().result_unit);
    return out;
  }

 private:
  static serve::RemoteOptions Options() {
    serve::RemoteOptions options;
    options.allow_insecure = true;
    options.max_key_bytes = u64{32'000'000'000};
    return options;
  }

  std::unique_ptr<serve::RemoteModel> remote_;
  ckks::SecretKey key_;
  ckks::Encoder encoder_;
  std::string session_;
  serve::RemoteStep last_;
  int position_ = 0;
};

}  // namespace polyveil::testing
