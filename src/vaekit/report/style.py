"""The style sheet of reports: light and dark, narrow and wide, on screen and on paper."""

CSS = """
:root{color-scheme:light dark;--paper:#fbfbfa;--card:#fff;--ink:#1b1f24;--soft:#5b6470;--rule:#e1e4e8;
--accent:#0067a3;
--warn:#fff6e5;--warn-edge:#e69f00;--well:#edf6fb;--well-edge:#56b4e9;--code:#f1f3f5}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1d2125;--ink:#e7e9ec;--soft:#a3acb6;
--rule:#333a41;
--accent:#6cb8ea;--warn:#2b2415;--warn-edge:#c98b00;--well:#16252e;--well-edge:#3f8fbd;--code:#262b30}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:974px;margin:0 auto;padding:2.5rem 1.5rem 4rem}
h1{font-size:2rem;line-height:1.2;letter-spacing:-.015em;margin:0 0 .5rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.5rem 0 .75rem}
p{margin:.5rem 0}
.lede{color:var(--soft);max-width:46em}
.lede b{color:var(--ink);font-weight:600}
.small{font-size:.875rem;color:var(--soft);max-width:54em}
.strip{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));margin:0 0 .75rem;
background:var(--card);
border:1px solid var(--rule);border-radius:10px;overflow:hidden}
.tile{padding:.85rem 1rem;box-shadow:1px 0 var(--rule),0 1px var(--rule)}
dt{font-size:.8125rem;font-weight:600;color:var(--soft)}
dd{margin:.1rem 0 0}
dd b{font-size:1.5rem;line-height:1.3;font-weight:650;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.unit{display:block;font-size:.8125rem;color:var(--soft);white-space:nowrap}
.meaning{display:block;font-size:.8125rem;line-height:1.4;color:var(--soft);margin-top:.2rem}
.notes{background:var(--warn);border-left:4px solid var(--warn-edge);border-radius:0 10px 10px 0;
padding:1rem 1.25rem;
margin-top:2rem}
.notes.well{background:var(--well);border-left-color:var(--well-edge)}
.notes h2{margin:0 0 .4rem;font-size:1rem}
.notes ul{margin:0;padding-left:1.1rem}
.notes li{margin:.4rem 0;font-size:.9375rem}
figure{margin:2.25rem 0}
.frame{background:#fff;border:1px solid var(--rule);border-radius:10px;padding:12px;overflow-x:auto}
.frame img{display:block;max-width:100%;height:auto}
figcaption{font-size:.9375rem;color:var(--soft);margin-top:.6rem;max-width:54em}
figcaption b{color:var(--ink)}
details{border-top:1px solid var(--rule)}
details:last-of-type{border-bottom:1px solid var(--rule)}
summary{cursor:pointer;padding:.8rem 0;font-weight:600}
summary:hover{color:var(--accent)}
.scroll{overflow-x:auto;padding-bottom:1rem}
table{border-collapse:collapse;font-size:.875rem;line-height:1.4}
th,td{padding:.35rem .75rem;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--soft);vertical-align:bottom}
th:first-child,td:first-child{padding-left:0}
.numbers th,.numbers td,.values th+th,.values td+td{text-align:right;font-variant-numeric:tabular-nums}
.numbers td{white-space:nowrap}
.numbers th{min-width:5.2em}
.settings td:first-child{white-space:nowrap}
.settings td:last-child{color:var(--soft)}
.changed{color:var(--accent)}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.9em}
pre{background:var(--code);border-radius:10px;padding:.9rem 1rem;white-space:pre-wrap;
overflow-wrap:anywhere;margin:.5rem 0}
@media(max-width:640px){main{padding:1.5rem 1rem 3rem}h1{font-size:1.6rem}
.strip{grid-template-columns:1fr 1fr}
.frame{padding:8px}.frame img{max-width:none;width:var(--wide)}}
pre span{display:inline-block;max-width:100%}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#bbb;--warn:#fff;--code:#fff}
body{font-size:10.5pt}main{max-width:none;padding:0}figure,.tile,.notes{break-inside:avoid}.frame{border:0;
padding:0;overflow:visible}
.scroll{overflow:visible}details::details-content{content-visibility:visible;block-size:auto}
table{font-size:8pt}
th,td{padding:.15rem .35rem}pre{border:1px solid var(--rule)}}
"""
