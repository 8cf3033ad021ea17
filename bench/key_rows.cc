// Evaluation keys of a compiled model: bytes in memory and on the wire, seconds to make them all.
#include "base/thread_pool.h"
#include "bench/sections.h"
#include "ckks/client/key_generator.h"
#include "ckks/client/secret_key.h"

namespace polyveil::bench {
namespace {

// One rotation key at a time, as a client makes and sends them; the few others together.
Status MakeAll(const ckks::SecretKey& secret, const ckks::KeyRequest& request) {
  const ckks::KeyGenerator generator(secret);
  for (const auto& [rotation, level] : request.rotations) {
    if (generator.Rotation(rotation, level).b.empty())
      return MakeError(ErrorCode::kOutOfRange, "rotation {}: empty key", rotation);
  }
  ckks::KeyRequest others = request;
  others.rotations.clear();
  PV_ASSIGN_OR_RETURN(const auto keys, generator.Generate(others));
  return {};
}

Row SizeRow(const compile::CompiledProgram& model, std::string id, std::string name, size_t bytes) {
  Row row;
  row.id = std::move(id);
  row.name = std::move(name);
  row.parameters = model.params()->spec().name;
  row.bytes = static_cast<double>(bytes);
  row.details["key_count"] = model.keys().count();
  return row;
}

}  // namespace

Status MeasureKeyRows(const Section& section, const compile::CompiledProgram& model) {
  const compile::Estimate& estimate = model.estimate();
  SetThreads(section.options().threads.back());
  section.Add(SizeRow(model, "demo_keys_memory", "keys of the demo's program, server memory",
                      estimate.key_bytes_memory));
  section.Add(SizeRow(model, "demo_keys_wire", "keys of the demo's program, on the wire",
                      estimate.key_bytes_wire));
  if (section.options().quick) return {};
  const auto secret = ckks::SecretKey::Generate(model.params());
  for (const size_t threads : section.options().threads) {
    SetThreads(threads);
    PV_RETURN_IF_ERROR(section.Begin(fmt::format("key generation, {} threads", threads)));
    Row row = SizeRow(model, "demo_keygen", "key generation, all of them", estimate.key_bytes_wire);
    const double cpu_before = CpuSeconds();
    const Timer timer;
    PV_RETURN_IF_ERROR(MakeAll(secret, model.keys()));
    row.measured = Summarise({timer.Seconds()}, {CpuSeconds() - cpu_before});
    section.Add(std::move(row));
  }
  return {};
}

}  // namespace polyveil::bench
