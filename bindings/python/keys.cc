// Keys, encryption and decryption.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "binding.h"

namespace polyveil {
namespace {

KeyNeeds NeedsOf(std::vector<int> rotations, bool conjugation, bool bootstrapping,
                 std::vector<LinearTransform> transforms) {
  return {std::move(rotations), conjugation, bootstrapping, std::move(transforms)};
}

template <typename T>
Ciphertext Encrypt(const SecretKey& self, const ArrayOf<T>& values, int level) {
  return Run([&] { return self.Encrypt(SpanOf(values), level); });
}

}  // namespace

void BindKeys(nb::module_& m) {
  nb::class_<EvaluationKeys>(m, "EvaluationKeys", "Public keys for whoever computes.")
      .def_static(
          "read",
          [](const Context& context, const std::string& path, std::vector<int> rotations,
             bool conjugation, bool bootstrapping, std::vector<LinearTransform> transforms) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            return Run([&] { return EvaluationKeys::Read(context, path, needs); });
          },
          "context"_a, "path"_a, nb::kw_only(), "rotations"_a = std::vector<int>(),
          "conjugation"_a = false, "bootstrapping"_a = false,
          "transforms"_a = std::vector<LinearTransform>())
      .def_prop_ro("nbytes", &EvaluationKeys::bytes)
      .def_prop_ro("key_id", &EvaluationKeys::key_id);

  nb::class_<SecretKey>(m, "SecretKey", "Stays with its owner.")
      .def(
          "__init__",
          [](SecretKey* self, const Context& context) {
            new (self) SecretKey(Unlocked([&] { return SecretKey::Generate(context); }));
          },
          "context"_a, "A fresh key.")
      .def_prop_ro("key_id", &SecretKey::key_id)
      .def(
          "write",
          [](const SecretKey& self, const std::string& path,
             const std::optional<std::string>& passphrase) {
            Run([&] { return self.Write(path, passphrase); });
          },
          "path"_a, "passphrase"_a = nb::none())
      .def_static(
          "read",
          [](const Context& context, const std::string& path,
             const std::optional<std::string>& passphrase) {
            return Run([&] { return SecretKey::Read(context, path, passphrase); });
          },
          "context"_a, "path"_a, "passphrase"_a = nb::none())
      .def(
          "make_keys",
          [](const SecretKey& self, std::vector<int> rotations, bool conjugation,
             bool bootstrapping, std::vector<LinearTransform> transforms,
             const std::optional<nb::callable>& progress) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            Callback callback(progress);
            return Run(callback, [&] { return self.MakeKeys(needs, callback.AsProgress()); });
          },
          nb::kw_only(), "rotations"_a = std::vector<int>(), "conjugation"_a = false,
          "bootstrapping"_a = false, "transforms"_a = std::vector<LinearTransform>(),
          "progress"_a = nb::none(),
          "progress(done) gets 0 to 1; False cancels, and so does what it raises.")
      .def(
          "write_keys",
          [](const SecretKey& self, const std::string& path, std::vector<int> rotations,
             bool conjugation, bool bootstrapping, std::vector<LinearTransform> transforms,
             const std::optional<nb::callable>& progress) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            Callback callback(progress);
            Run(callback, [&] { return self.WriteKeys(path, needs, callback.AsProgress()); });
          },
          "path"_a, nb::kw_only(), "rotations"_a = std::vector<int>(), "conjugation"_a = false,
          "bootstrapping"_a = false, "transforms"_a = std::vector<LinearTransform>(),
          "progress"_a = nb::none())
      .def("encrypt", Encrypt<Complex>, "values"_a, "level"_a = -1)
      .def("encrypt", Encrypt<double>, "values"_a, "level"_a = -1)
      .def(
          "decrypt",
          [](const SecretKey& self, const Ciphertext& ciphertext, int count) {
            return ToNumpy(Run([&] { return self.Decrypt(ciphertext, count); }));
          },
          "ciphertext"_a, "count"_a = 0);
}

}  // namespace polyveil
