#include "model/narrow.h"

#include <string>

#include "approx/choose.h"

namespace polyveil::model {
namespace {

struct Site {
  const char* name;
  Approximant LayerConfig::*polynomial;
  ObservedInterval LayerConfig::*seen;
  approx::Target target;
  double eps;
};

Status NarrowOne(LayerConfig& layer, const Site& site, double ratio, const std::string& where) {
  const ObservedInterval& seen = layer.*site.seen;
  Approximant& p = layer.*site.polynomial;
  const double a = seen.lo * ratio, b = seen.hi / ratio;
  if (!(seen.lo > 0 && a < b))
    return MakeError(ErrorCode::kOutOfRange, "{} / {}: [{}, {}] narrowed by {} is no interval",
                     where, site.name, seen.lo, seen.hi, ratio);
  PV_ASSIGN_OR_RETURN(auto fit, approx::SeriesOfDegree(site.target, a, b, site.eps, p.degree()));
  p = fit.polynomial;
  return {};
}

}  // namespace

Status Narrow(Decoder& decoder, const Narrowing& narrowing) {
  if (!(narrowing.ratio >= 1))
    return MakeError(ErrorCode::kInvalidArgument, "narrowing by {} < 1", narrowing.ratio);
  const BlockShape& shape = decoder.blocks.front().shape;
  const auto last = shape.bilinear() ? approx::Target::kInverse : approx::Target::kInverseRoot;
  const Site sites[] = {
      {"norm 1", &LayerConfig::norm1, &LayerConfig::norm1_seen, approx::Target::kInverseRoot,
       shape.norm_eps},
      {"divisor", &LayerConfig::divisor_inverse, &LayerConfig::divisor_seen,
       approx::Target::kInverse, shape.attention_eps},
      {"norm 2", &LayerConfig::norm2, &LayerConfig::norm2_seen, last, shape.norm_eps}};
  bool known = narrowing.site.empty();
  for (const Site& site : sites) {
    if (!narrowing.site.empty() && narrowing.site != site.name) continue;
    known = true;
    for (size_t i = 0; i < decoder.blocks.size(); ++i)
      PV_RETURN_IF_ERROR(
          NarrowOne(decoder.blocks[i].forms, site, narrowing.ratio, fmt::format("layer {}", i)));
  }
  if (known) return {};
  return MakeError(ErrorCode::kInvalidArgument, "no site \"{}\": norm 1, divisor, norm 2",
                   narrowing.site);
}

}  // namespace polyveil::model
