"""Sphinx's settings for the site. microbert_course.site.build writes the pages beside a copy of this file."""

project = "MicroBERT"
author = "The MicroBERT course"
copyright = "the MicroBERT course, Apache License 2.0"
extensions = ["myst_nb", "sphinx.ext.duration", "sphinx.ext.mathjax"]
language = "en"
exclude_patterns = []

nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Show the cell's {type}"
nb_code_prompt_hide = "Hide the cell's {type}"
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_title = "MicroBERT"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_permalinks_icon = "#"
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_persistent": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "collapse_navbar": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "home_page_in_toc": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
toc_object_entries_show_parents = "hide"
add_module_names = False
python_maximum_signature_line_length = 76

# only these parts of MathJax are in static/mathjax
mathjax_path = "mathjax/startup.js"
mathjax3_config = {
    "loader": {"load": ["input/tex-base", "[tex]/ams", "[tex]/textmacros", "output/chtml"]},
    "tex": {"packages": ["base", "ams", "textmacros"], "inlineMath": [["\\(", "\\)"]], "displayMath": [["\\[", "\\]"]]},
    "options": {"processHtmlClass": "math", "ignoreHtmlClass": "tex2jax_ignore|document"},
}
myst_update_mathjax = False
