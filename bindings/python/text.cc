// Models, servers and clients.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "binding.h"
#include "polyveil/client.h"
#include "polyveil/model.h"
#include "polyveil/server.h"

namespace polyveil {

void BindModels(nb::module_& m) {
  nb::class_<Plan>(m, "Plan", "What a token will cost on this machine.")
      .def_ro("parameters", &Plan::parameters)
      .def_ro("seconds_per_token", &Plan::seconds_per_token)
      .def_ro("components", &Plan::components)
      .def_ro("levels", &Plan::levels)
      .def_ro("bootstraps", &Plan::bootstraps)
      .def_ro("rotations", &Plan::rotations)
      .def_ro("key_bytes_sent", &Plan::key_bytes_sent)
      .def_ro("server_bytes", &Plan::server_bytes)
      .def_ro("token_bytes_up", &Plan::token_bytes_up)
      .def_ro("token_bytes_down", &Plan::token_bytes_down);
  nb::class_<Simulation>(m, "Simulation", "A simulated run beside the float64 model.")
      .def_ro("tokens", &Simulation::tokens)
      .def_ro("equal_tokens", &Simulation::equal_tokens)
      .def_ro("largest_logit_error", &Simulation::largest_logit_error);
  nb::class_<Model>(m, "Model", "A polynomial decoder in the clear, with its tokenizer.")
      .def_static(
          "load",
          [](const std::string& path, int context) {
            return Run([&] { return Model::Load(path, context); });
          },
          "path"_a, "context"_a = 0)
      .def_prop_ro("name", &Model::name)
      .def_prop_ro("context", &Model::context)
      .def_prop_ro("layers", &Model::layers)
      .def_prop_ro("width", &Model::width)
      .def(
          "plan",
          [](const Model& self, const std::string& parameters, bool prompts_at_once) {
            return Run([&] { return self.Plan({parameters, prompts_at_once}); });
          },
          nb::kw_only(), "parameters"_a = "", "prompts_at_once"_a = false)
      .def(
          "generate",
          [](const Model& self, const std::string& prompt, int tokens) {
            return Run([&] { return self.Generate(prompt, tokens); });
          },
          "prompt"_a, "tokens"_a = 16, "Greedy text of the float64 model: nothing is encrypted.")
      .def(
          "simulate",
          [](const Model& self, const std::string& prompt, int tokens,
             const std::string& parameters, bool prompts_at_once) {
            return Run([&] {
              return self.Simulate(prompt, tokens, {parameters, prompts_at_once});
            });
          },
          "prompt"_a, "tokens"_a = 16, nb::kw_only(), "parameters"_a = "",
          "prompts_at_once"_a = false);
}

void BindTexts(nb::module_& m) {
  nb::class_<Server>(m, "Server", "polyveil-server in this process.")
      .def(
          "__init__",
          [](Server* self, const std::string& model, const std::string& parameters,
             const std::string& address, int port, bool prompts_at_once, int context) {
            ServerOptions options;
            options.model = model;
            options.parameters = parameters;
            options.address = address;
            options.port = port;
            options.prompts_at_once = prompts_at_once;
            options.context = context;
            new (self) Server(Run([&] { return Server::Start(options); }));
          },
          "model"_a, nb::kw_only(), "parameters"_a = "", "address"_a = "127.0.0.1", "port"_a = 0,
          "prompts_at_once"_a = false, "context"_a = 0)
      .def_prop_ro("port", &Server::port)
      .def_prop_ro("url", &Server::url)
      .def("stop", &Server::Stop, nb::call_guard<nb::gil_scoped_release>());
  nb::class_<GeneratedText>(m, "GeneratedText")
      .def_ro("text", &GeneratedText::text)
      .def_ro("end", &GeneratedText::end)
      .def_ro("tokens", &GeneratedText::tokens)
      .def_ro("bytes_up", &GeneratedText::bytes_up)
      .def_ro("bytes_down", &GeneratedText::bytes_down);
  nb::class_<TextClient>(m, "_Client")
      .def(
          "__init__",
          [](TextClient* self, const std::string& server, const std::string& cache_folder,
             double max_key_gigabytes, double retry_seconds, bool allow_insecure) {
            ClientOptions options;
            options.server = server;
            options.cache_folder = cache_folder;
            options.max_key_gigabytes = max_key_gigabytes;
            options.retry_seconds = retry_seconds;
            options.allow_insecure = allow_insecure;
            new (self) TextClient(Run([&] { return TextClient::Connect(options); }));
          },
          "server"_a, nb::kw_only(), "cache_folder"_a = "", "max_key_gigabytes"_a = 8.0,
          "retry_seconds"_a = 30.0, "allow_insecure"_a = false)
      .def_prop_ro("model", &TextClient::model)
      .def_prop_ro("context", &TextClient::context)
      .def_prop_ro("seconds_per_token", &TextClient::seconds_per_token)
      .def_prop_ro("key_bytes", &TextClient::key_bytes)
      .def_prop_ro("security", &TextClient::security)
      .def(
          "send_keys",
          [](TextClient& self, const std::optional<nb::callable>& progress) {
            Callback callback(progress);
            Run(callback, [&] { return self.SendKeys(callback.AsProgress()); });
          },
          "progress"_a = nb::none())
      .def("_generate",
           [](TextClient& self, const std::string& prompt, const std::string& public_part,
              int tokens, double temperature, double top_p, int top_k, double repetition_penalty,
              std::uint64_t seed, const std::vector<std::string>& stops, bool fixed_length,
              const nb::callable& on_token) {
             const GenerateOptions options{
                 tokens, temperature, top_p, top_k, repetition_penalty, seed, stops, fixed_length};
             Callback callback(on_token);
             const OnToken heard = [&](const TokenEvent& token) {
               return callback(token.position, token.prompt, std::string(token.text), token.seconds,
                               token.server_seconds);
             };
             return Run(callback, [&]() -> Result<GeneratedText> {
               auto text = self.NewText(public_part);
               if (!text.ok()) return text.error();
               return text->Continue(prompt, options, heard);
             });
           });
}

}  // namespace polyveil
