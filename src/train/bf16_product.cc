#include "train/bf16_product.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <map>
#ifdef POLYVEIL_DNNL
#include <dnnl.hpp>
#endif

#include "base/check.h"
#include "train/rows.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
#ifdef POLYVEIL_DNNL

using Descriptor = dnnl::memory::desc;
using Type = dnnl::memory::data_type;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Descriptor Describe(const Tensor& x, Type type) {
  return {x.sizes().vec(), type, x.strides().vec()};
}

dnnl::matmul MakeProduct(const Tensor& a, const Tensor& b, const Tensor& c, bool accumulate) {
  dnnl::primitive_attr attributes;
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1);
    attributes.set_post_ops(sum);
  }
  const dnnl::matmul::desc product(Describe(a, Type::bf16), Describe(b, Type::bf16),
                                   Describe(c, Type::f32));
  return dnnl::matmul(dnnl::matmul::primitive_desc(product, attributes, Engine()));
}

// Making a product costs as much as a small one, so every thread keeps those that it has made. They
// are made for a number of threads, which is one inside a parallel region.
const dnnl::matmul& FindProduct(const Tensor& a, const Tensor& b, const Tensor& c,
                                bool accumulate) {
  using Key = std::array<std::int64_t, 9>;
  thread_local std::map<Key, dnnl::matmul> made;
  const std::int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const Key key = {a.size(0),   a.size(1),   b.size(1), a.stride(0), a.stride(1),
                   b.stride(0), b.stride(1), threads,   accumulate};
  const auto it = made.find(key);
  if (it != made.end()) return it->second;
  return made.emplace(key, MakeProduct(a, b, c, accumulate)).first->second;
}

dnnl::memory View(const Tensor& x, Type type) {
  return dnnl::memory(Describe(x, type), Engine(), x.data_ptr());
}

// Whether it could; else nothing is done.
bool MultiplyByDnnl(const Tensor& a, const Tensor& b, const Tensor& c, bool accumulate) {
  if (!HasBf16Products()) return false;
  thread_local dnnl::stream stream(Engine());
  FindProduct(a, b, c, accumulate)
      .execute(stream, {{DNNL_ARG_SRC, View(a, Type::bf16)},
                        {DNNL_ARG_WEIGHTS, View(b, Type::bf16)},
                        {DNNL_ARG_DST, View(c, Type::f32)}});
  return true;
}

bool FindBf16Products() {
  const Tensor a = torch::ones({16, 16}, torch::kBFloat16);
  try {
    (void)MakeProduct(a, a, torch::ones({16, 16}), false);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

#else

bool MultiplyByDnnl(const Tensor&, const Tensor&, const Tensor&, bool) { return false; }
bool FindBf16Products() { return false; }

#endif

void Check(const Tensor& a, const Tensor& b, const Tensor& c) {
  PV_CHECK(a.scalar_type() == torch::kBFloat16 && b.scalar_type() == torch::kBFloat16 &&
               c.scalar_type() == torch::kFloat32 && c.is_contiguous(),
           "bf16 product of other types");
  PV_CHECK(a.size(1) == b.size(0) && c.size(0) == a.size(0) && c.size(1) == b.size(1),
           "bf16 product: [{}, {}] x [{}, {}] -> [{}, {}]", a.size(0), a.size(1), b.size(0),
           b.size(1), c.size(0), c.size(1));
}

}  // namespace

bool HasBf16Products() {
  static const bool has = FindBf16Products();
  return has;
}

Tensor RoundToBf16(const Tensor& x) {
  constexpr std::int64_t kPart = 1 << 14;
  if (x.dim() == 2 && !x.is_contiguous() && x.t().is_contiguous()) return RoundToBf16(x.t()).t();
  if (x.scalar_type() != torch::kFloat32 || !x.is_contiguous()) return x.to(torch::kBFloat16);
  Tensor y = torch::empty(x.sizes(), torch::kBFloat16);
  const float* from = x.data_ptr<float>();
  auto* to = reinterpret_cast<std::uint16_t*>(y.data_ptr());
  at::parallel_for(0, x.numel(), kPart, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += kPart)
      ScaleRow(from + i, to + i, static_cast<int>(std::min(kPart, end - i)), 1);
  });
  return y;
}

void MultiplyBf16(const Tensor& a, const Tensor& b, Tensor& c, bool accumulate) {
  Check(a, b, c);
  if (!MultiplyByDnnl(a, b, c, accumulate))
    torch::addmm_out(c, c, a.to(torch::kFloat32), b.to(torch::kFloat32), accumulate ? 1 : 0);
}

}  // namespace polyveil::train
