"""A private OAuth 2.0 provider on loopback, as far as a mail server asks one: whose is this token (RFC 7662)?"""
import http.server
import json
import threading


class Provider:
    """`tokens` says whose each good token is; any other is unknown. Asked with the token as bearer."""

    def __init__(self):
        self.tokens = {}
        self.asked = []
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # pylint: disable=invalid-name
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                provider.asked.append(token)
                user = provider.tokens.get(token)
                body = json.dumps({"active": True, "email": user} if user else {"active": False}).encode()
                self.send_response(200 if user else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def dovecot(self, folder):
        """Lines for the end of dovecot.conf, so that Dovecot asks this provider."""
        (folder / "oauth2.conf").write_text(
            f"introspection_mode = auth\nintrospection_url = http://127.0.0.1:{self.port}/\n"
            "username_attribute = email\nactive_attribute = active\nactive_value = true\n")
        return f"""
auth_mechanisms = plain login xoauth2 oauthbearer
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
"""
