"""Plays EC2's metadata service, version 2: a spot notice comes with the third question.

Usage: played_imds.py FILE   (the port is written to FILE)
"""

import http.server
import sys

TOKEN = "a-token"
asked = 0


class Service(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        wants = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        known = self.path == "/latest/api/token" and wants
        self.answer(200 if known else 400, TOKEN)

    def do_GET(self):
        global asked
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.answer(401, "")
        if self.path != "/latest/meta-data/spot/instance-action":
            return self.answer(404, "")
        asked += 1
        if asked < 3:
            return self.answer(404, "")
        self.answer(200, '{"action": "terminate", "time": "2026-11-22T05:00:00Z"}')

    def answer(self, code, text):
        self.send_response(code)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Service)
with open(sys.argv[1], "w") as file:
    file.write(str(server.server_address[1]))
server.serve_forever()
