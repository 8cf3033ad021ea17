// The style of a run's page (report_page.h): no font, picture or script of anyone's.
#pragma once

namespace polyveil::tools {

inline constexpr char kReportStyle[] = R"css(:root {
  color-scheme: light dark;
  --ground: #f6f5f1; --card: #ffffff; --ink: #1c2126; --quiet: #5a646e; --line: #d9d6cd;
  --bar: #0b6e5f; --boot: #b4381d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181b; --card: #1d2327; --ink: #e8e6e1; --quiet: #a0a8ae; --line: #343c42;
    --bar: #57c7b0; --boot: #ff8f70;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; font: 16px/1.5 system-ui, sans-serif;
  background: var(--ground); color: var(--ink); }
h1 { font-size: 1.3rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: .95rem; margin: 0 0 .6rem; color: var(--quiet); }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; margin: 0 0 1rem; }
p { margin: .6rem 0 0; color: var(--quiet); font-size: .9rem; }
dl { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: .2rem .9rem;
  font-size: .9rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15rem .4rem; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
td.words { white-space: normal; min-width: 11rem; }
th { font-weight: normal; text-align: left; min-width: 5.5rem; }
th:empty { min-width: 0; }
th[scope="col"] { color: var(--quiet); text-align: right; }
th[scope="col"]:first-child { text-align: left; }
td.bar { width: 40%; min-width: 3rem; padding-right: 0; }
td.bar div { height: .8rem; min-width: 1px; background: var(--bar); border-radius: .15rem; }
svg text { font: 11px system-ui, sans-serif; fill: var(--quiet); }
svg line { stroke: var(--line); }
svg .stage { fill: var(--bar); }
svg .boot { fill: var(--boot); }
.key { display: inline-block; width: .8rem; height: .8rem; background: var(--boot); }
@media (max-width: 30rem) {
  body { padding: .5rem; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .3rem; }
}
)css";

}  // namespace polyveil::tools
