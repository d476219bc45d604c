"""The style sheet of a report page: inlined, light and dark, without any outside resource."""

__all__ = ["INDEX_STYLESHEET", "STYLESHEET"]

STYLESHEET = """\
:root {
  --ink: #1d1f22; --soft: #5c636b; --line: #dfe2e6; --paper: #fdfdfb; --panel: #f4f4f0;
  --good: #00694c; --good-back: #e3f3ec; --bad: #a53c00; --bad-back: #fdebe0;
  --mixed: #7a5600; --mixed-back: #fdf3d7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e5e6e8; --soft: #a0a7af; --line: #383d43; --paper: #17191c; --panel: #212428;
    --good: #6fd6b0; --good-back: #15332a; --bad: #ffab7d; --bad-back: #3c2417;
    --mixed: #f0cd72; --mixed-back: #383016;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.62 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif;
}
main { max-width: 52rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2.05rem; line-height: 1.2; letter-spacing: -.012em; margin: .3rem 0 1.3rem;
  text-wrap: balance; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .7rem; padding-top: 1.1rem;
  border-top: 1px solid var(--line); }
p { margin: 0 0 1rem; max-width: 42rem; }
.kicker, .note, figcaption, table, dl, summary, .verdict {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
.kicker { color: var(--soft); font-size: .82rem; letter-spacing: .02em; margin: 0; }
.note { color: var(--soft); font-size: .84rem; line-height: 1.5; margin: .6rem 0; }
.verdict { border-left: 4px solid var(--soft); background: var(--panel); border-radius: 4px;
  padding: .75rem 1rem; margin: 0 0 1.5rem; font-size: .95rem; line-height: 1.5; }
.verdict ul { margin: .35rem 0 0; padding-left: 1.1rem; }
.verdict.good { border-color: var(--good); background: var(--good-back); }
.verdict.bad { border-color: var(--bad); background: var(--bad-back); }
.verdict.mixed { border-color: var(--mixed); background: var(--mixed-back); }
.verdict.good strong { color: var(--good); }
.verdict.bad strong { color: var(--bad); }
.verdict.mixed strong { color: var(--mixed); }
figure { margin: 1.6rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto;
  background: #fff; border-radius: 6px; }
figcaption { color: var(--soft); font-size: .86rem; line-height: 1.5; margin-top: .6rem; }
figure .scroll { margin: 0; }
.graph img { padding: .6rem; }
.reason { color: var(--soft); }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .82rem; line-height: 1.45; min-width: 50%; }
th { text-align: left; font-weight: 600; color: var(--soft); vertical-align: bottom; }
th, td { padding: .38rem .75rem .38rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
td.words { white-space: normal; min-width: 8rem; }
td.number { font-variant-numeric: tabular-nums; }
td.met { color: var(--good); font-weight: 600; }
td.not-met { color: var(--bad); font-weight: 600; }
td.not-judged { color: var(--soft); }
pre { background: var(--panel); border-radius: 6px; padding: .9rem 1rem; overflow-x: auto;
  font: .76rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre.words { white-space: pre-wrap; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .88em; }
pre code { font-size: 1em; }
.joint { font-style: italic; font-size: 1.08rem; }
summary { cursor: pointer; color: var(--soft); font-size: .84rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; font-size: .84rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) {
  body { font-size: 16px; }
  main { padding: 1.4rem 1rem 3rem; }
  h1 { font-size: 1.6rem; }
  h2 { margin-top: 2.2rem; }
  figure.wide img { max-width: none; width: 40rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
}
@media print { .scroll { overflow: visible; } body { font-size: 11pt; } }
"""

INDEX_STYLESHEET = """\
main { max-width: 70rem; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: .15em; }
.runs { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.4rem;
  margin: 2rem 0 3rem; }
article { border: 1px solid var(--line); border-top: 4px solid var(--soft); border-radius: 6px;
  overflow: hidden; display: flex; flex-direction: column; background: var(--panel); }
article > div { padding: .8rem 1rem .4rem; }
article.good { border-top-color: var(--good); }
article.bad { border-top-color: var(--bad); }
article.mixed { border-top-color: var(--mixed); }
.shot { display: block; background: #fff; }
.shot img { display: block; width: 100%; height: 12.5rem; object-fit: contain; padding: .5rem; }
h3 { font-size: 1.02rem; line-height: 1.35; margin: 0 0 .5rem; }
h3 a { text-decoration: none; }
h3 a:hover { text-decoration: underline; }
.tag, .runs .note { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.tag { font-size: .86rem; font-weight: 600; margin: 0; color: var(--soft); }
.good .tag { color: var(--good); }
.bad .tag { color: var(--bad); }
.mixed .tag { color: var(--mixed); }
.verdict li { margin-bottom: .35rem; }
@media print { .runs { display: block; } article { break-inside: avoid; margin-bottom: 1rem; } }
"""
