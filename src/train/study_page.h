// The self-contained page of a study's JSON (study.h): tables and inline charts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace polyveil::train {

std::string StudyPage(const nlohmann::ordered_json& study);

}  // namespace polyveil::train
