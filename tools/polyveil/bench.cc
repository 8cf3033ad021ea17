#include "polyveil/bench_commands.h"

namespace polyveil::tools {

Command DescribeBench(CLI::App& app) {
  app.require_subcommand(1);
  struct Entry {
    CLI::App* app;
    Command command;
  };
  auto entries = std::make_shared<std::vector<Entry>>();
  const auto add = [&](const char* name, const char* what, Command (*describe)(CLI::App&)) {
    CLI::App* sub = app.add_subcommand(name, what);
    entries->push_back({sub, describe(*sub)});
  };
  add("bootstrap", "precision, time, keys of a bootstrap", DescribeBenchBootstrap);
  add("engine", "every row of the performance table, beside the machine's ceilings",
      DescribeBenchEngine);
  add("soak", "bootstraps for a given time: worst bits, escapes", DescribeBenchSoak);
#ifdef POLYVEIL_HUB
  add("layer", "one layer of a released model on ciphertexts: error, time by component, memory",
      DescribeBenchLayer);
#endif
  return [entries]() -> Status {
    for (const Entry& entry : *entries)
      if (entry.app->parsed()) return entry.command();
    return MakeError(ErrorCode::kInvalidArgument, "bench: no subcommand given");
  };
}

}  // namespace polyveil::tools
