// What the files of the extension share: NumPy arrays in and out, errors as exceptions, the GIL
// released while the library computes.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <chrono>
#include <complex>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "polyveil/ckks.h"

namespace polyveil {

namespace nb = nanobind;
using namespace nb::literals;

// Arrays as they are, without a copy where the elements are of this type already.
template <typename T>
using ArrayOf = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ComplexArray = ArrayOf<Complex>;
using RealArray = ArrayOf<double>;

template <typename T>
std::span<const T> SpanOf(const ArrayOf<T>& values) {
  return {values.data(), values.size()};
}

// The vector itself becomes the array's memory.
template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> ToNumpy(std::vector<T> values) {
  auto* const owned = new std::vector<T>(std::move(values));
  const nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return {owned->data(), {owned->size()}, owner};
}

// Seconds of this thread inside the library: what is left of a call's time is the binding's
// (bench/binding_overhead.py).
inline thread_local double library_seconds = 0;

// fn() without the GIL.
template <typename Fn>
auto Unlocked(Fn&& fn) {
  const nb::gil_scoped_release unlocked;
  const auto start = std::chrono::steady_clock::now();
  auto result = fn();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  library_seconds += taken.count();
  return result;
}

// Its value, or an exception.
template <typename Fn>
auto Run(Fn&& fn) {
  return Unlocked(fn).value();
}

// What the library calls on its way, or None. It may raise: the library hears "stop" then, and the
// caller gets what was raised; no exception passes through the library. Ctrl-C likewise.
class Callback {
 public:
  explicit Callback(std::optional<nb::callable> fn) : fn_(std::move(fn)) {}

  // Whether to go on: anything but False. Takes the GIL.
  template <typename... Args>
  bool operator()(const Args&... args) {
    const nb::gil_scoped_acquire locked;
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      return !fn_ || !(*fn_)(args...).is(nb::handle(Py_False));
    } catch (...) {
      raised_ = std::current_exception();
      return false;
    }
  }
  OnProgress AsProgress() {
    return [this](double done) { return (*this)(done); };
  }
  void Rethrow() const {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  std::optional<nb::callable> fn_;
  std::exception_ptr raised_;
};

template <typename Fn>
auto Run(Callback& callback, Fn&& fn) {
  const auto result = Unlocked(fn);
  callback.Rethrow();
  return result.value();
}

void BindKeys(nb::module_& m);
void BindEvaluator(nb::module_& m);
// Operators of ciphertexts, which use the evaluator that was made last with keys of their secret
// key, for as long as that lives.
void BindOperators(nb::class_<Ciphertext>& ciphertext);
void BindModels(nb::module_& m);
void BindTexts(nb::module_& m);

}  // namespace polyveil
