"""A web server that dies in the middle of the first initrd: dying_httpd.py ADDRESS DIRECTORY cut|silent."""

from __future__ import annotations

import http.server
import os
import sys
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files below the directory; of an initrd the first half."""

    def do_GET(self) -> None:
        content = (Path(sys.argv[2]) / self.path.lstrip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if "/initrd-" not in self.path:
            self.wfile.write(content)
            return
        self.wfile.write(content[: len(content) // 2])
        self.server.server_close()
        if sys.argv[3] == "silent":
            time.sleep(3600)
        os._exit(0)


if __name__ == "__main__":
    http.server.HTTPServer((sys.argv[1], 80), Handler).serve_forever()
