#include "polyveil/block_text.h"

#include <nlohmann/json.hpp>

#include "polyveil/terminal.h"

namespace polyveil::tools {

std::string EstimateToText(const compile::CompiledDecoder& program) {
  const compile::Estimate& e = program.estimate();
  const double layers = static_cast<double>(program.decoder().blocks.size());
  std::string text = fmt::format(
      "layout       width {}, {} heads of {}, rows of {} slots (feed-forward {}); {} keys in {} "
      "ciphertexts a layer\n",
      program.layout().width, program.layout().heads, program.layout().d_head,
      program.layout().attention.size, program.layout().hidden.size,
      program.layout().keys() * program.layout().chunks, program.layout().chunks);
  text += fmt::format(
      "plan         {} a {}: {:.3g} s a layer; depth {}, {} bootstraps, {} rotations, {} "
      "products\n",
      FormatSeconds(e.seconds_per_token), program.keeps_caches() ? "token" : "text",
      e.seconds_per_token / layers, e.depth_per_token, e.bootstraps_per_token,
      e.rotations_per_token, e.products_per_token);
  text += fmt::format("keys         {}: {} expanded, {} compact, {} on the wire; made in {}\n",
                      program.keys().count(), Bytes(e.key_bytes_memory), Bytes(e.key_bytes_compact),
                      Bytes(e.key_bytes_wire), FormatSeconds(e.key_generation_seconds));
  return text;
}

nlohmann::json EstimateToJson(const compile::CompiledDecoder& program) {
  const compile::Estimate& e = program.estimate();
  nlohmann::json components;
  for (size_t i = 0; i < e.component_seconds.size(); ++i)
    components[compile::ComponentName(static_cast<compile::Component>(i))] = e.component_seconds[i];
  return {{"layers", program.decoder().blocks.size()},
          {"keys_of_cache", program.layout().keys() * program.layout().chunks},
          {"seconds_per_token", e.seconds_per_token},
          {"component_seconds", components},
          {"depth", e.depth_per_token},
          {"bootstraps", e.bootstraps_per_token},
          {"rotations", e.rotations_per_token},
          {"products", e.products_per_token},
          {"keys", program.keys().count()},
          {"key_bytes_memory", e.key_bytes_memory},
          {"key_bytes_compact", e.key_bytes_compact},
          {"key_bytes_wire", e.key_bytes_wire},
          {"key_seconds", e.key_generation_seconds},
          {"server_bytes", e.server_bytes},
          {"compact_seconds", e.compact_seconds},
          {"token_bytes_up", e.token_bytes_up},
          {"token_bytes_down", e.token_bytes_down}};
}

}  // namespace polyveil::tools
