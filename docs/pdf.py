"""Make a PDF of an HTML document: pdf.py HTML BASE-URL PDF; links relative to the document become ones below BASE-URL."""

import logging
import os
import sys

from weasyprint import HTML

document, base_url, pdf = sys.argv[1:]
logging.getLogger("weasyprint").setLevel(logging.ERROR)
HTML(filename=document, base_url=base_url).write_pdf(pdf)
# Pango may still read the fonts in a thread of its own. Python would unload the library under it on the way out,
# and now and then that ends with a segmentation fault.
os._exit(0)
