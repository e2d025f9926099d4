/* Every key of imapproxy.conf: the one table behind the parser, the defaults, `proxyd -p`, the
 * manual and the sample file.
 *
 *	TEXT(key, default, longest, flags, meaning)
 *	NUM(key, default, least, most, unit, flags, meaning)
 *	BOOL(key, default, flags, meaning)
 *	NAME(key, default, names, flags, meaning)	one of a list of names
 *	PAIR(key, default, least, most, unit, flags, meaning)	two numbers
 *	LIST(key, longest, flags, meaning)	one value a line, in the lines' order; default: none
 *
 * flags: RELOAD    a reload (SIGHUP) takes a new value
 *        SECRET    printed as ***
 *        NETWORKS  a list as in cidr.h
 *        DIRECTORIES  as in config_directory.h
 *        MECHANISMS  a list as in sasl.h
 *        PLACE     as in place.h
 *        HOSTS     names and addresses
 *        HOST      one of them; brackets around it are taken off
 * Units: s seconds, B bytes; a plain number is in that unit, B also takes k and M.
 */
#ifndef LIB_CONFIG_TABLE_H
#define LIB_CONFIG_TABLE_H

#define CONFIG_TABLE(TEXT, NUM, BOOL, NAME, PAIR, LIST) \
	/* the mail host */ \
	TEXT(server_hostname, "localhost", 255, RELOAD | HOST, \
	     "Mail host that serves every account without one of its own: a name or an address " \
	     "(of IPv6 in brackets or without).") \
	NUM(server_port, "143", 1, 65535, "", RELOAD, \
	    "Its IMAP port, a number or a service name.") \
	NUM(pop3_server_port, "110", 1, 65535, "", RELOAD, \
	    "Its POP3 port.") \
	NUM(connect_retries, "10", 0, 1000000, "", RELOAD, \
	    "How often a mail host that did not answer is tried again in the background; a login " \
	    "is never held up for it.") \
	NUM(connect_delay, "5", 0, 3600, "s", RELOAD, \
	    "Pause between two such tries.") \
	NUM(connect_timeout, "5", 1, 300, "s", RELOAD, \
	    "Longest wait for a connection to a mail host.") \
	NUM(backend_timeout, "30", 1, 600, "s", RELOAD, \
	    "Longest wait for each answer of a mail host while logging in and while giving a " \
	    "connection back.") \
	NUM(host_retry, "10", 0, 3600, "s", RELOAD, \
	    "A mail host that failed is not dialled again for so long: logins are refused at " \
	    "once.") \
	NAME(ipversion_only, "0", ip_versions, RELOAD, \
	     "Use only this version of IP toward mail hosts: 4, 6, or 0 for both.") \
	BOOL(dns_rr, "no", RELOAD, \
	     "yes: each connection to a mail host begins with its next address; no: with its " \
	     "first.") \
	NAME(host_order, "in_order", host_orders, RELOAD, \
	     "Of an account with several mail hosts, the one that a new connection is made to: " \
	     "in_order, the first that answers; round_robin, the one whose last new connection " \
	     "was made the longest time ago.") \
	TEXT(proxy_protocol_hosts, "none", 1000, RELOAD, \
	     "Mail hosts whose connections begin with a PROXY header (version 2), separated by " \
	     "spaces; all: every one.") \
	BOOL(tell_client_address, "no", RELOAD, \
	     "yes: a mail host that offers it is told with ID or XCLIENT who the client is.") \
	/* listening */ \
	TEXT(listen_address, "0.0.0.0", 255, 0, \
	     "Address to listen on; :: is IPv4 and IPv6.") \
	NUM(listen_port, "143", 1, 65535, "", 0, \
	    "Port to listen on, a number or a service name.") \
	NUM(pop3_listen_port, "0", 0, 65535, "", 0, \
	    "Port for POP3 (110); 0: none.") \
	BOOL(run_listener, "yes", 0, \
	     "no: in.imapproxyd starts no listener; xinetd, inetd or systemd start proxyd.") \
	PAIR(spare_processes, "8 64", 1, 4096, "", RELOAD, \
	     "Least and most idle processes that wait for a client, per listening socket.") \
	NUM(max_clients, "10000", 1, 1000000, "", RELOAD, \
	    "Client connections at once; more get BYE.") \
	NUM(max_per_ip, "0", 0, 1000000, "", RELOAD, \
	    "Client connections from one address at once, for each of IMAP and POP3; more get " \
	    "BYE. 0: no bound.") \
	TEXT(allow_addresses, "all", 1000, RELOAD | NETWORKS, \
	     "Networks whose clients may connect, separated by spaces or commas; all: everybody.") \
	TEXT(deny_addresses, "none", 1000, RELOAD | NETWORKS, \
	     "Networks whose clients may not, even if they are allowed above; none: nobody.") \
	TEXT(proxy_protocol_addresses, "none", 1000, RELOAD | NETWORKS, \
	     "Networks of the proxies whose connections begin with a PROXY header (HAProxy's, " \
	     "version 1 or 2), which says who the client is.") \
	TEXT(trusted_addresses, "none", 1000, RELOAD | NETWORKS, \
	     "Networks of webmails and proxies that are believed when they say with ID or " \
	     "XCLIENT whom they serve; only for logs, directories and mail hosts.") \
	BOOL(send_tcp_keepalives, "no", RELOAD, \
	     "TCP keep-alives on the connections to clients and mail hosts.") \
	/* the cache */ \
	NUM(cache_size, "3072", 1, 1000000, "", RELOAD, \
	    "Backend connections at once, in use and cached together; the oldest cached one " \
	    "makes room.") \
	NUM(cache_expiration_time, "300", 0, 31536000, "s", RELOAD, \
	    "How long a connection may lie in the cache; 0 turns caching off.") \
	NUM(cache_validate_after, "30", 0, 86400, "s", RELOAD, \
	    "A connection that lay longer is proven with NOOP before it is used again.") \
	NUM(cache_max_age, "3600", 1, 604800, "s", RELOAD, \
	    "How long one backend login may be used in all.") \
	NUM(cache_max_per_user, "4", 1, 1000, "", RELOAD, \
	    "Connections of one account that may lie in the cache.") \
	NUM(auth_recheck, "300", 0, 86400, "s", RELOAD, \
	    "A password that the mail host accepted longer ago than that is proven again in the " \
	    "background when a login reuses a connection; 0: before every answer.") \
	NUM(host_max_connections, "0", 0, 1000000, "", RELOAD, \
	    "Connections to one mail host at once, in use and cached; its oldest cached ones " \
	    "make room. 0: no bound.") \
	NUM(drain_bytes, "256k", 0, 16777216, "B", RELOAD, \
	    "What may be read and thrown away so that a connection can be kept after its client " \
	    "left in the middle of an answer; 0: such a connection is closed.") \
	NUM(drain_time, "1", 0, 60, "s", RELOAD, \
	    "How long that may take.") \
	BOOL(enable_select_cache, "no", RELOAD, \
	     "A mailbox that a session's first command opened with EXAMINE stays open on the " \
	     "cached connection; when the next session opens it and nothing has changed, the " \
	     "answer is there already.") \
	/* clients */ \
	NUM(login_timeout, "180", 1, 3600, "s", RELOAD, \
	    "Longest time a client may take to log in.") \
	NUM(login_attempts, "3", 1, 100, "", RELOAD, \
	    "Logins that may fail on one client connection.") \
	NUM(max_errors, "10", 1, 1000, "", RELOAD, \
	    "Wrong commands that one client may send before login.") \
	NUM(max_line_login, "8192", 512, 8192, "B", RELOAD, \
	    "Longest command line before login.") \
	NUM(idle_timeout, "1860", 60, 86400, "s", RELOAD, \
	    "A session without traffic is closed after so long (RFC 9051: 30 minutes at least).") \
	TEXT(auth_mechanisms, "PLAIN LOGIN", 200, RELOAD | MECHANISMS, \
	     "Mechanisms that AUTHENTICATE offers: PLAIN, LOGIN, and with tokens (OAuth 2.0) " \
	     "XOAUTH2, OAUTHBEARER; by a challenge that a directory's passwords answer " \
	     "SCRAM-SHA-256, SCRAM-SHA-1, CRAM-SHA256, CRAM-SHA1, CRAM-MD5; EXTERNAL, by a " \
	     "client's certificate (tls_client_ca_file); APOP: POP3's old command, weak as MD5 " \
	     "is; none: only the command LOGIN.") \
	NAME(imap_proxy_foreign, "", zero_one, RELOAD, \
	     "No effect: clients are always told the capabilities of the mail host they are on.") \
	TEXT(hide_capabilities, "", 1000, RELOAD, \
	     "Capabilities of the mail host that clients are not told, separated by spaces.") \
	TEXT(safe_commands, "", 1000, RELOAD, \
	     "Further commands that leave nothing behind on a connection, separated by spaces.") \
	/* accounts */ \
	LIST(directory, 1000, RELOAD | DIRECTORIES, \
	     "Where accounts are looked up, KIND:PLACE; one line each, asked in this order. " \
	     "None: every account is on server_hostname.") \
	TEXT(auth_http_header, "", 255, RELOAD | SECRET | HEADER, \
	     "A further header for http directories, NAME VALUE: nginx's auth_http_header.") \
	NAME(no_mailhost, "default", no_mailhosts, RELOAD, \
	     "An account that a directory knows, without a mail host: default puts it on " \
	     "server_hostname, local on local_server, refuse turns its logins away.") \
	TEXT(proxy_hostname, "", 1000, RELOAD | HOSTS, \
	     "Names of this host besides that of gethostname(2), and addresses that lead to it, " \
	     "separated by spaces: a mail host of such a name is on local_server.") \
	TEXT(local_server, "", 255, RELOAD | PLACE, \
	     "This host's own IMAP server, for accounts whose mail host is this host: HOST:PORT, " \
	     "[ADDRESS]:PORT or unix:/PATH; there is no TLS with it.") \
	TEXT(pop3_local_server, "", 255, RELOAD | PLACE, \
	     "Its POP3 server.") \
	TEXT(default_options, "", 1000, RELOAD, \
	     "Options of every account that a directory knows: those that it has not itself.") \
	NAME(auth, "backend", auths, RELOAD, \
	     "Who judges passwords: backend, the mail host; directory, the account's directory; " \
	     "both, first the directory, then the mail host.") \
	TEXT(default_domain, "", 255, RELOAD, \
	     "Put behind a login name that lacks its first character: @example.org.") \
	TEXT(domain_separators, "", 32, RELOAD, \
	     "With this default_domain is put behind a name that has none of these characters.") \
	NAME(login_case, "keep", login_cases, RELOAD, \
	     "lower: login names are taken in lower case (A to Z only).") \
	NUM(lookup_ttl, "300", 1, 86400, "s", RELOAD, \
	    "How long the answer about an account or a host name is believed.") \
	NUM(lookup_negative_ttl, "10", 0, 3600, "s", RELOAD, \
	    "How long it is believed that there is no such account.") \
	NUM(lookup_stale_max, "86400", 0, 2592000, "s", RELOAD, \
	    "How long an answer about an account is good while its directory cannot be asked.") \
	NUM(lookup_processes, "2", 1, 64, "", 0, \
	    "Look-ups that can run at once.") \
	TEXT(preauth_command, "", 1000, RELOAD | SECRET, \
	     "IMAP command, without a tag, that each new connection to a mail host begins with; " \
	     "only when it is answered OK there is a login.") \
	TEXT(auth_sasl_plain_username, "", 255, RELOAD, \
	     "Master user who logs in at the mail host in place of every client, for the " \
	     "client's account; with auth backend only together with the next two, with auth " \
	     "directory with the next one.") \
	TEXT(auth_sasl_plain_password, "", 255, RELOAD | SECRET, "The master user's password.") \
	TEXT(auth_shared_secret, "", 255, RELOAD | SECRET, \
	     "The one password that clients must have then, whoever they log in as; with auth " \
	     "backend only.") \
	TEXT(master_separator, "", 1, RELOAD, \
	     "The master user logs in as USER, this character, and its own name; unset: by SASL " \
	     "PLAIN with USER as authorization identity.") \
	/* this system */ \
	TEXT(proc_username, "nobody", 64, 0, \
	     "User that everything runs as, when started by root.") \
	TEXT(proc_groupname, "nogroup", 64, 0, \
	     "Group that everything runs as; its members may read the statistics.") \
	TEXT(run_directory, "", 80, 0, \
	     "Where the programs' sockets are: /run/keepwarm, or as an ordinary user " \
	     "keepwarm-run beside the configuration.") \
	TEXT(chroot_directory, "", 255, 0, \
	     "Directory that every session is shut into, when started by root; nothing needs to " \
	     "be in it.") \
	TEXT(stat_filename, "/var/run/pimpstats", 255, 0, \
	     "State file (LMDB) that pimpstat reads.") \
	BOOL(foreground_mode, "no", 0, \
	     "yes: in.imapproxyd stays in the foreground and writes no pid file.") \
	/* logs */ \
	TEXT(log_target, "", 255, 0, \
	     "syslog, stderr or file:PATH; unset: stderr in the foreground, else syslog.") \
	NAME(log_format, "", log_formats, RELOAD, \
	     "imapproxy, courier: lines about logins as these programs wrote them; keepwarm: our " \
	     "own; unset: imapproxy where in.imapproxyd runs the service.") \
	NAME(syslog_facility, "LOG_MAIL", log_facilities, RELOAD, \
	     "Facility of the log lines.") \
	NAME(syslog_prioritymask, "LOG_DEBUG", log_priorities, RELOAD, \
	     "Least important lines that are still written.") \
	/* administration */ \
	BOOL(enable_admin_commands, "no", RELOAD, \
	     "yes: XPROXY_ commands before login, for everybody in admin_addresses.") \
	TEXT(admin_addresses, "all", 1000, RELOAD | NETWORKS, \
	     "Networks whose clients may use them, separated by spaces or commas; all: " \
	     "everybody.") \
	TEXT(protocol_log_filename, "/var/log/imapproxy_protocol.log", 255, 0, \
	     "Log of the sessions of traced users (XPROXY_TRACE, pimpstat --trace); /dev/null: " \
	     "nowhere.") \
	NUM(protocol_log_max, "1024M", 0, 4294967295, "B", 0, \
	    "A log that has grown to that ends all traces, with one warning; 0: no bound.") \
	/* TLS toward mail hosts */ \
	NAME(server_tls, "none", tls_modes, RELOAD, \
	     "TLS toward mail hosts: none; starttls, on their usual port; implicit, mostly on " \
	     "port 993.") \
	BOOL(force_tls, "no", RELOAD, \
	     "yes: the same as server_tls starttls, but without tls_verify_server.") \
	BOOL(tls_verify_server, "yes", RELOAD, \
	     "A mail host's certificate must lead to a known authority and carry its name; no: " \
	     "any is good enough.") \
	TEXT(tls_ca_file, "", 255, RELOAD, \
	     "Certificates of the authorities (PEM) that are known; with tls_ca_path unset, " \
	     "too: the system's.") \
	TEXT(tls_ca_path, "", 255, RELOAD, "Directory of such files.") \
	TEXT(tls_cert_file, "", 255, RELOAD, \
	     "Certificate (PEM, with its chain) that is shown to mail hosts that ask for one.") \
	TEXT(tls_key_file, "", 255, RELOAD, "Its key; unset: in tls_cert_file.") \
	TEXT(tls_ciphers, "", 1000, RELOAD, \
	     "Ciphers up to TLS 1.2 toward mail hosts, as openssl-ciphers(1) writes them; unset: " \
	     "OpenSSL's choice.") \
	NAME(tls_min_version, "1.2", tls_versions, RELOAD, \
	     "Oldest version of TLS toward mail hosts.") \
	BOOL(tls_no_tlsv1, "yes", RELOAD, "TLS 1.0 is never used: no is a warning.") \
	BOOL(tls_no_tlsv1_1, "yes", RELOAD, "TLS 1.1 is never used: no is a warning.") \
	BOOL(tls_no_tlsv1_2, "no", RELOAD, "yes: the same as tls_min_version 1.3.") \
	NUM(spare_backend_connections, "0", 0, 64, "", RELOAD, \
	    "Connections to each mail host that wait for a login, TLS and greeting done.") \
	NUM(spare_backend_age, "45", 5, 600, "s", RELOAD, \
	    "How long such a connection may wait; the mail host must not end it earlier.") \
	/* TLS with clients */ \
	NUM(imaps_listen_port, "0", 0, 65535, "", 0, \
	    "Port for clients that begin with TLS (993), a number or a service name; 0: none.") \
	NUM(pop3s_listen_port, "0", 0, 65535, "", 0, \
	    "The same for POP3 (995); 0: none.") \
	TEXT(tls_server_cert_file, "", 1000, RELOAD, \
	     "Certificates (PEM, each with its chain) that clients are shown, separated by " \
	     "spaces; the first one is for clients that ask for none of the names in them. " \
	     "Unset: no TLS with clients.") \
	TEXT(tls_server_key_file, "", 1000, RELOAD, \
	     "Their keys, in the same order; unset: in the same files.") \
	TEXT(tls_server_ciphers, "DEFAULT:!kRSA:!kDHE", 1000, RELOAD, \
	     "Ciphers up to TLS 1.2 with clients; unset: OpenSSL's choice of those with ECDHE.") \
	NAME(tls_server_min_version, "1.2", tls_versions, RELOAD, \
	     "Oldest version of TLS with clients.") \
	TEXT(tls_client_ca_file, "", 255, RELOAD, \
	     "Certificates (PEM) of the authorities of clients: a client may show a certificate " \
	     "then, which must lead to one of them. Unset: none is asked for.") \
	NAME(tls_client_name, "email", tls_names, RELOAD, \
	     "Which name in it is the user's, for EXTERNAL: email, cn or uid.") \
	BOOL(require_tls, "no", RELOAD, \
	     "yes: no login without TLS but from plaintext_addresses.") \
	TEXT(plaintext_addresses, "127.0.0.0/8 ::1", 1000, RELOAD | NETWORKS, \
	     "Networks whose clients may log in without TLS in any case.") \
	NUM(tls_sessions_per_worker, "500", 1, 10000, "", RELOAD, \
	    "TLS connections in one process of tlsrelayd; 1: each has its own.") \
	NUM(tls_handshakes, "200", 1, 10000, "", RELOAD, \
	    "TLS handshakes with clients at once; then the oldest makes room for the next.") \
	NUM(tls_handshake_timeout, "10", 1, 300, "s", RELOAD, \
	    "Longest time that a TLS handshake may take.")

#endif
