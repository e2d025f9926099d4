// One visit with imapflow: click.js HOST PORT USER PASSWORD [starttls|implicit CAFILE]. Prints the mailboxes and the
// first message's text.
const fs = require('fs');
const {ImapFlow} = require('imapflow');
const [host, port, user, pass, how, authority] = process.argv.slice(2);
const tls = how ? {secure: how === 'implicit', doSTARTTLS: how === 'starttls', tls: {ca: fs.readFileSync(authority)}}
	: {secure: false};

async function visit() {
	const client = new ImapFlow({host, port: Number(port), ...tls, auth: {user, pass}, logger: false});
	await client.connect();
	const boxes = (await client.list()).map(box => box.path);
	const lock = await client.getMailboxLock('INBOX');
	const message = await client.fetchOne('1', {envelope: true, source: true});
	await client.messageFlagsAdd('1', ['\\Flagged']);
	const flagged = await client.search({flagged: true});
	lock.release();
	await client.logout();
	console.log(JSON.stringify({boxes, flagged, subject: message.envelope.subject, source: message.source.toString()}));
}

visit().catch(error => {
	console.error(error);
	process.exit(1);
});
